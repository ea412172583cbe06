"""The files beside the sources: locks, images, the editor's configurations, and what git and Docker are told."""

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


def pins(name: str) -> dict[str, str]:
    """Return the version that a lock pins for each package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS.values())
def test_a_lock_names_no_host_and_hashes_every_pin(name: str):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE), "an option such as --index-url"
    assert not re.search(r"(^|[\s=])/\w", text), "a path of some machine"
    assert all("--hash=sha256:" in pin for pin in re.split(r"\n(?=\w)", text)[1:])


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_gpu_lock_is_the_other_and_cuda(name: str):
    plain, gpu = pins(LOCKS[f"{name}-cpu"]), pins(LOCKS[f"{name}-gpu"])
    assert plain.items() <= gpu.items()
    assert all(re.match("nvidia-|jax-cuda|cuda-|torch$|triton$", name) for name in gpu.keys() - plain.keys())


@pytest.mark.parametrize("name", ["jax-gpu", "torch-gpu"])
def test_an_image_has_cuda_of_one_generation_alone(name: str):
    generations = {found for pin in pins(LOCKS[name]) for found in re.findall(r"(?:-cu|cuda)(\d+)", pin)}
    assert len(generations) == 1


def test_pytorch_is_where_it_is_wanted_alone_and_of_one_version():
    assert not {"torch", "transformers", "sentence-transformers"} & pins(LOCKS["jax-cpu"]).keys()
    assert pins(LOCKS["jax-cpu"]).items() <= pins(LOCKS["torch-cpu"]).items()
    assert "torch" not in pins(LOCKS["torch-cpu"]), "which build it is must be the index's choice"
    version = pins(LOCKS["torch-gpu"])["torch"]
    assert f"\nARG TORCH={version}\n" in IMAGES["torch-cpu"].read_text()
    assert f'"torch=={version}"' in (ROOT / "pyproject.toml").read_text()


def test_every_install_takes_what_a_lock_names_and_nothing_more():
    texts = [path.read_text() for path in [ROOT / "run_manual.sh", *IMAGES.values()]]
    installs = [line for text in texts for line in text.splitlines() if "--requirement " in line]
    assert len(installs) == 1 + len(IMAGES)
    assert all("--no-deps --require-hashes" in line for line in installs)


@pytest.mark.parametrize(("name", "more"), [("jax-cpu", []), ("torch-gpu", ["torch", "torch-gpu"])])
def test_a_lock_pins_every_direct_dependency(name: str, more: list[str]):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = list(project["dependencies"])
    for extra in ["test", "debug", "tensorboard", "wandb", *more]:
        expected += project["optional-dependencies"][extra]
    names = {re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-") for requirement in expected}
    assert names <= pins(LOCKS[name]).keys()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_its_lock_alone_and_runs_as_nobody_special(name: str):
    text = IMAGES[name].read_text()
    assert re.findall(r"^(?:COPY|ADD) (.*)", text, re.MULTILINE) == [f"{LOCKS[name]} requirements/"]
    assert f"--requirement {LOCKS[name]} " in text
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["1000:1000"]
    assert "://" not in text


# ---------------------------------------------------------------------------- Visual Studio Code

CHOSEN = "local: choose a task"


def editor(name: str) -> dict:
    """Return a file of the editor's, read."""
    return json.loads((ROOT / ".vscode" / name).read_text())


def launch_tasks() -> list[tuple[dict, dict]]:
    """Return each launch configuration with the task that it starts before it attaches."""
    tasks = {task["label"]: task for task in editor("tasks.json")["tasks"]}
    launches = editor("launch.json")["configurations"]
    return [(configuration, tasks[configuration["preLaunchTask"]]) for configuration in launches]


def test_f5_runs_the_open_file_in_every_configuration():
    launches = launch_tasks()
    names = [configuration["name"] for configuration, _ in launches]
    assert names == ["jax-cpu", "jax-cpu clear", *list(IMAGES)[1:], "local", CHOSEN]
    for configuration, task in launches[:-1]:
        name, *flags = configuration["name"].split()
        arguments = ["run_manual.sh", name, "${relativeFile}", "--debug", *[f"--{flag}" for flag in flags]]
        assert [task["command"], *task["args"]] == ["bash", *arguments]


def test_the_debugger_attaches_once_the_program_waits():
    for configuration, task in launch_tasks():
        assert configuration["connect"] == {"host": "127.0.0.1", "port": PORT}
        remote = "${workspaceFolder}" if "local" in task["args"] else "/app"
        assert configuration["pathMappings"] == [{"localRoot": "${workspaceFolder}", "remoteRoot": remote}]
        ready = task["problemMatcher"]["background"]["endsPattern"]
        assert re.search(ready, f"debugpy: waiting on 127.0.0.1:{PORT}")


def test_every_task_can_be_launched_by_its_name():
    task = next(task for configuration, task in launch_tasks() if configuration["name"] == CHOSEN)
    assert task["args"] == ["run_manual.sh", "local", "${input:task}", "--debug"]
    [choice] = editor("tasks.json")["inputs"]
    assert (choice["id"], choice["type"]) == ("task", "pickString")
    assert choice["options"] == TASKS, "add or remove one line of .vscode/tasks.json"
    assert choice["default"] in TASKS


def test_the_editor_names_only_what_exists():
    for task in editor("tasks.json")["tasks"]:
        script, name, *_ = task["args"]
        assert task["options"] == {"cwd": "${workspaceFolder}"}
        assert (ROOT / script).is_file()
        assert name == "local" or IMAGES[name].is_file()
    assert all((ROOT / folder).is_dir() for folder in editor("settings.json")["python.analysis.extraPaths"])


# ---------------------------------------------------------------------------- git, Docker, continuous integration


@pytest.mark.skipif(not GIT, reason="this system has no git")
def test_a_clone_that_asks_for_crlf_gets_lf(tmp_path: Path):
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


def test_secrets_are_kept_out_of_git_and_of_images():
    assert "secrets.env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1:] == ["*", "!requirements/*.lock", "secrets.env"], "the last rule that fits counts"
    assert {path.stem for path in (ROOT / "requirements").glob("*.lock")} == LOCKS.keys()
    secrets = re.findall(r"^\w+=.*", (ROOT / "secrets.env.example").read_text(), re.MULTILINE)
    assert secrets == ["WANDB_API_KEY=", "OPENAI_API_KEY=", "OPENAI_BASE_URL=", "HF_TOKEN="]


def test_continuous_integration_uses_the_entry_point():
    script = ROOT / ".ci" / "run"
    assert script.read_text().splitlines()[-1] == "./run_manual.sh local test"
    assert os.access(script, os.X_OK)
    assert os.access(ROOT / "run_manual.sh", os.X_OK)
