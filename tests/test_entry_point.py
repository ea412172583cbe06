"""The entry point, run_manual.sh.

Every test uses a copy of it in a temporary folder. The PATH holds only the tools it needs and stubs of `uv` and
`docker`, so nothing is downloaded, built or started.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PORT = 43690
CONFIGURATIONS = ["local", "jax-cpu", "jax-gpu", "torch-cpu", "torch-gpu"]
TOOLS = ["bash", "cat", "dirname", "env", "find", "id", "mkdir", "readlink", "rm", "sed", "sleep", "sort", "tr"]
FLOCK = shutil.which("flock")

# Prints its arguments, working directory and key. Waits for a signal with --wait. Exits with --status.
TASK = """
import json, os, signal, sys, time
print(json.dumps({"argv": sys.argv, "cwd": os.getcwd(), "key": os.environ.get("WANDB_API_KEY")}), flush=True)
if "--wait" in sys.argv:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    print("ready", flush=True)
    time.sleep(20)
if "--status" in sys.argv:
    sys.exit(int(sys.argv[sys.argv.index("--status") + 1]))
"""

# Creates a real, empty virtual environment, and logs the install commands.
UV = f"""#!/usr/bin/env bash
echo "$@" >>uv.log
if [[ $1 == venv ]]; then {sys.executable} -m venv --without-pip .venv; else sleep "${{UV_SLEEP:-0}}"; fi
exit "${{UV_STATUS:-0}}"
"""

# Logs its calls. Fails at the command that FAILING names. With --wait, a container "runs" until a signal comes.
DOCKER = """#!/usr/bin/env bash
printf '%s\\037' "$@" >>docker.log
printf '\\036' >>docker.log
case "${FAILING-}:$*" in
  daemon:info* | image:"image inspect"* | *build*:"image inspect"*) echo "it is not there" >&2; exit 1 ;;
  closed:info*) echo "permission denied while trying to connect" >&2; exit 1 ;;
  rootless:info*) echo "[name=seccomp,profile=builtin name=rootless]" ;;
  *build:build*) echo "step 3 broke" >&2; exit 1 ;;
  gpu:"run --rm --gpus all --entrypoint true"*) echo "could not select device driver" >&2; exit 125 ;;
  *:*--wait*) trap 'exit 143' TERM; echo ready; for _ in {1..200}; do sleep 0.1; done ;;
  *:*--entrypoint*) ;;
  *:run*) exit "${STATUS:-0}" ;;
esac
"""


class EntryPoint:
    """A copy of the entry point in `folder`, called with only the tools in `bin` on its PATH."""

    def __init__(self, folder: Path):
        """Use the copy in `folder`."""
        self.folder = folder
        self.bin = folder / "bin"

    def make_environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a call: of the caller's variables, only those that Python needs."""
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        return inherited | {"PATH": str(self.bin), "XDG_CACHE_HOME": str(self.folder / "cache")} | variables

    def __call__(self, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
        """Call the entry point from a folder, by default the project's, and wait until it exits."""
        return subprocess.run(
            [self.bin / "bash", self.folder / "run_manual.sh", *arguments],
            env=self.make_environment(**variables),
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        """Call the entry point and leave it running."""
        return subprocess.Popen(
            [self.bin / "bash", self.folder / "run_manual.sh", *arguments],
            env=self.make_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file into the copy."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def count_installs(self) -> int:
        """Return how often the dependencies were installed."""
        log = self.folder / "uv.log"
        return log.read_text().count("pip install") if log.exists() else 0

    def read_docker_calls(self) -> list[list[str]]:
        """Return the arguments of every call of docker."""
        log = self.folder / "docker.log"
        calls = log.read_text().split("\036")[:-1] if log.exists() else []
        return [call.split("\037")[:-1] for call in calls]

    def read_container_arguments(self) -> tuple[list[str], list[str]]:
        """Return the options of the last container, and the arguments after its image."""
        call = self.read_docker_calls()[-1]
        image = next(index for index, word in enumerate(call) if word.startswith("thinking:"))
        return call[1:image], call[image + 1 :]


def write_entry_point(folder: Path) -> EntryPoint:
    """Copy the entry point into `folder`, without a virtual environment."""
    entry_point = EntryPoint(folder)
    entry_point.bin.mkdir(parents=True)
    for tool in TOOLS:
        tool_path = shutil.which(tool)
        assert tool_path, f"these tests need {tool}"
        (entry_point.bin / tool).symlink_to(tool_path)
    if FLOCK:
        (entry_point.bin / "flock").symlink_to(FLOCK)
    shutil.copy(ROOT / "run_manual.sh", folder)
    shutil.copy(ROOT / "secrets.env.example", folder)
    entry_point.write("requirements/local.lock", "numpy==2.0\n")
    entry_point.write("tasks/simple.py", TASK)
    entry_point.write("src/thinking/__init__.py", "")
    entry_point.write("bin/uv", UV, 0o755)
    entry_point.write("bin/docker", DOCKER, 0o755)
    return entry_point


@pytest.fixture
def fresh_entry_point(tmp_path: Path) -> EntryPoint:
    """Return an entry point without a virtual environment."""
    return write_entry_point(tmp_path / "the project")


@pytest.fixture(scope="module")
def installed_entry_point(tmp_path_factory: pytest.TempPathFactory) -> EntryPoint:
    """Return an entry point with a virtual environment, shared by the tests of this file."""
    entry_point = write_entry_point(tmp_path_factory.mktemp("used"))
    assert entry_point("local", "tasks/simple.py").returncode == 0
    return entry_point


@pytest.fixture
def entry_point(installed_entry_point: EntryPoint, tmp_path: Path) -> EntryPoint:
    """Return a copy of `installed_entry_point` for one test."""
    shutil.copytree(installed_entry_point.folder, tmp_path / "the project", symlinks=True)
    return EntryPoint(tmp_path / "the project")


def read_output(run: subprocess.CompletedProcess) -> dict:
    """Return what the task printed about its call."""
    assert run.stdout, run.stderr
    return json.loads(run.stdout.splitlines()[0])


def read_error_line(run: subprocess.CompletedProcess, status: int) -> str:
    """Return the single line on stderr of a failed call."""
    assert run.returncode == status, run
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert run.stderr.startswith("run_manual.sh: ")
    return run.stderr


# ---------------------------------------------------------------------------- invalid calls


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "say what to run"),
        (["tpu", "tasks/simple.py"], "no configuration 'tpu'; choose one of: " + ", ".join(CONFIGURATIONS)),
        (["local|jax-cpu", "tasks/simple.py"], "no configuration 'local|jax-cpu'"),
        (["torch", "tasks/simple.py"], "no configuration 'torch'"),
        (["local"], "say which file"),
        (["local", ""], "no file ''"),
        (["local", "tasks/none.py"], "no file 'tasks/none.py'; choose one of: tasks/simple.py thinking test lint docs"),
        (["jax-cpu", "tasks"], "no file 'tasks'"),
        (["jax-gpu", "run_manual.sh"], "sees src/, tasks/ and tests/ alone"),
    ],
)
def test_invalid_arguments_exit_with_status_2_and_one_line(entry_point: EntryPoint, arguments: list[str], reason: str):
    assert reason in read_error_line(entry_point(*arguments), 2)
    assert not entry_point.read_docker_calls()


def test_help_exits_with_status_0(entry_point: EntryPoint):
    run = entry_point("--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert "|".join(CONFIGURATIONS) + " FILE|thinking|test" in run.stdout


def test_thinking_is_the_command_of_the_package_and_knows_how_it_was_called(entry_point: EntryPoint):
    entry_point.write("src/thinking/commands/__init__.py", "")
    entry_point.write(
        "src/thinking/commands/__main__.py", "import os, sys; print(os.environ['THINKING_LAUNCHER'], *sys.argv[1:])"
    )
    run = entry_point("local", "thinking", "show", "simple", "--artifacts", "a b")
    assert (run.returncode, run.stdout) == (0, "./run_manual.sh local show simple --artifacts a b\n")
    assert entry_point("jax-gpu", "thinking", "runs").returncode == 0
    options, program = entry_point.read_container_arguments()
    assert program == ["-m", "thinking.commands", "runs"]
    assert "THINKING_LAUNCHER=./run_manual.sh jax-gpu" in get_option_values(options, "--env")


def test_an_image_uses_its_own_environment(fresh_entry_point: EntryPoint, tmp_path: Path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    run = fresh_entry_point("local", "tasks/simple.py", THINKING_VENV=str(tmp_path / "venv"))
    assert run.returncode == 0, run.stderr
    assert not fresh_entry_point.count_installs()
    assert not (fresh_entry_point.folder / ".venv").exists()
    run = fresh_entry_point("local", "tasks/simple.py", THINKING_VENV=str(tmp_path / "none"))
    assert "none has no bin/python" in read_error_line(run, 1)


# ---------------------------------------------------------------------------- local


def test_flags_are_passed_unchanged(entry_point: EntryPoint):
    flags = ["--name", "two words", "", "*", "--x=a'b\"c", "$HOME", "back\\slash", "--debug"]
    assert read_output(entry_point("local", "tasks/simple.py", *flags))["argv"] == ["tasks/simple.py", *flags]


@pytest.mark.parametrize(
    "file", ["tasks\\simple.py", ".\\tasks\\simple.py", "./tasks/simple.py", "{folder}/tasks/simple.py"]
)
def test_file_paths_are_normalized(entry_point: EntryPoint, file: str):
    output = read_output(entry_point("local", file.format(folder=entry_point.folder)))
    assert output["argv"] == ["tasks/simple.py"]
    assert output["cwd"] == str(entry_point.folder)


def test_call_through_a_link_and_with_cdpath_finds_the_project(entry_point: EntryPoint, tmp_path: Path):
    (tmp_path / "link").symlink_to(entry_point.folder / "run_manual.sh")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run").symlink_to("../link")
    run = subprocess.run(
        [entry_point.bin / "bash", "run", "local", "tasks/simple.py"],
        env=entry_point.make_environment(CDPATH=f".:{tmp_path}:{entry_point.folder.parent}"),
        cwd=tmp_path / "bin",
        capture_output=True,
        text=True,
    )
    assert read_output(run)["argv"][0] == str(entry_point.folder / "tasks/simple.py")


def test_relative_paths_are_of_the_folder_of_the_caller(entry_point: EntryPoint, tmp_path: Path):
    output = read_output(entry_point("local", "tasks/simple.py", "--artifacts", "out", "--plan", "1", cwd=tmp_path))
    assert output["cwd"] == str(tmp_path)
    assert output["argv"] == [str(entry_point.folder / "tasks/simple.py"), "--artifacts", "out", "--plan", "1"]


def test_results_lie_in_the_project_unless_a_flag_says_where(entry_point: EntryPoint, tmp_path: Path):
    output = read_output(entry_point("local", "tasks/simple.py", "--seed", "3", cwd=tmp_path))
    assert output["argv"][1:] == ["--seed", "3", "--artifacts", str(entry_point.folder / "artifacts")]
    entry_point.write("src/other.py", TASK)
    assert read_output(entry_point("local", "src/other.py", "--seed", "3", cwd=tmp_path))["argv"][1:] == ["--seed", "3"]


def test_exit_status_is_forwarded(entry_point: EntryPoint):
    assert entry_point("local", "tasks/simple.py", "--status", "37").returncode == 37


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_forwarded_to_the_program(entry_point: EntryPoint, number: signal.Signals):
    with entry_point.start("local", "tasks/simple.py", "--wait") as process:
        assert process.stdout.readline().startswith("{")
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(10) == 128 + number


def test_src_is_importable(entry_point: EntryPoint):
    entry_point.write("tasks/simple.py", "import thinking; print(thinking.__file__)")
    run = entry_point("local", "tasks/simple.py")
    assert run.stdout.strip() == str(entry_point.folder / "src/thinking/__init__.py")


def test_dependencies_are_reinstalled_only_when_the_lock_changes(fresh_entry_point: EntryPoint):
    first = fresh_entry_point("local", "tasks/simple.py")
    assert "making .venv" in first.stderr
    assert read_output(first)["argv"] == ["tasks/simple.py"]
    assert fresh_entry_point("local", "tasks/simple.py").stderr == ""
    assert fresh_entry_point.count_installs() == 1
    fresh_entry_point.write("requirements/local.lock", "numpy==2.1\n")
    assert fresh_entry_point("local", "tasks/simple.py").returncode == 0
    assert fresh_entry_point.count_installs() == 2


def test_failed_installation_is_repeated(fresh_entry_point: EntryPoint):
    failed_run = fresh_entry_point("local", "tasks/simple.py", UV_STATUS="1")
    assert failed_run.returncode == 1
    assert "could not make .venv" in failed_run.stderr.splitlines()[-1]
    assert read_output(fresh_entry_point("local", "tasks/simple.py"))["argv"] == ["tasks/simple.py"]


def test_first_run_without_flock_says_that_it_does_not_wait(fresh_entry_point: EntryPoint):
    (fresh_entry_point.bin / "flock").unlink(missing_ok=True)
    run = fresh_entry_point("local", "tasks/simple.py")
    assert run.returncode == 0
    assert "this system has no flock: start no other run until .venv is made" in run.stderr


def test_first_run_ends_where_locks_fail(fresh_entry_point: EntryPoint):
    (fresh_entry_point.bin / "flock").unlink(missing_ok=True)
    fresh_entry_point.write("bin/flock", "#!/usr/bin/env bash\nexit 71\n", 0o755)  # as on a disk without locks
    run = fresh_entry_point("local", "tasks/simple.py")
    assert run.returncode == 1
    assert "cannot lock requirements/local.lock" in run.stderr
    assert fresh_entry_point.count_installs() == 0


@pytest.mark.skipif(not FLOCK, reason="this system has no flock, so first runs do not wait for each other")
def test_concurrent_first_runs_install_once(fresh_entry_point: EntryPoint):
    runs = [fresh_entry_point.start("local", "tasks/simple.py", UV_SLEEP="0.3") for _ in range(2)]
    assert [run.communicate(timeout=30) and run.returncode for run in runs] == [0, 0]
    assert fresh_entry_point.count_installs() == 1


@pytest.mark.parametrize(
    ("python", "advice"),
    [
        (None, "no Python 3.11 to 3.14 is on PATH; install one"),
        ("exit 1", "no Python 3.11 to 3.14 is on PATH; install one"),
        ("[[ $* != *ensurepip* ]]", "apt install python3-venv"),
    ],
    ids=["none", "too old", "without venv"],
)
def test_missing_python_is_reported_with_advice(fresh_entry_point: EntryPoint, python: str | None, advice: str):
    (fresh_entry_point.bin / "uv").unlink()
    if python:
        fresh_entry_point.write("bin/python3", f"#!/usr/bin/env bash\n{python}\n", 0o755)
    assert advice in read_error_line(fresh_entry_point("local", "tasks/simple.py"), 1)
    assert not (fresh_entry_point.folder / ".venv").exists()


def test_test_argument_runs_pytest(entry_point: EntryPoint):
    entry_point.write("src/pytest.py", "import sys; print(sys.argv[1:]); sys.exit(5)")
    run = entry_point("local", "test", "-k", "this or that")
    assert (run.stdout.strip(), run.returncode) == ("['-k', 'this or that']", 5)


def test_docs_argument_builds_the_site_strictly(entry_point: EntryPoint):
    entry_point.write("src/mkdocs.py", "import sys; print(sys.argv[1:]); sys.exit(1)")
    run = entry_point("local", "docs", "--verbose")
    assert (run.stdout.strip(), run.returncode) == ("['build', '--strict', '--site-dir', 'build/site', '--verbose']", 1)


@pytest.mark.parametrize("failing", ["format", "check"])
def test_lint_argument_fails_with_either_check(entry_point: EntryPoint, failing: str):
    entry_point.write("src/ruff.py", f"import sys; print(sys.argv[1:]); sys.exit(sys.argv[1] == {failing!r})")
    run = entry_point("local", "lint")
    sources = ["src", "tasks", "tests", "docs", "notebooks"]
    calls = [["format", "--check", *sources], ["check", *sources]][: 1 if failing == "format" else 2]
    assert (run.stdout.splitlines(), run.returncode) == ([str(call) for call in calls], 1)


@pytest.mark.parametrize("target", ["docs", "lint"])
def test_containers_neither_lint_nor_document(entry_point: EntryPoint, target: str):
    assert "use: local" in read_error_line(entry_point("jax-cpu", target), 2)


# ---------------------------------------------------------------------------- debugging

DEBUGPY = """
def listen(address): print("listen", address, flush=True)
def wait_for_client(): print("wait", flush=True)
"""


def test_debug_flag_waits_for_a_debugger(entry_point: EntryPoint):
    entry_point.write("src/debugpy.py", DEBUGPY)
    run = entry_point("local", "tasks/simple.py", "--debug", "--name", "two words")
    listen_line, wait_line, output = run.stdout.splitlines()
    assert (listen_line, wait_line) == (f"listen ('127.0.0.1', {PORT})", "wait")
    assert json.loads(output)["argv"][1:] == ["--name", "two words"]
    assert run.stderr == f"debugpy: waiting on 127.0.0.1:{PORT}\n"


def test_debug_flag_reports_a_port_in_use(entry_point: EntryPoint):
    entry_point.write("src/debugpy.py", "def listen(address): raise RuntimeError('in use')")
    assert f"port {PORT} is taken" in read_error_line(entry_point("local", "tasks/simple.py", "--debug"), 1)


def test_debug_flag_works_with_pytest(entry_point: EntryPoint):
    entry_point.write("src/debugpy.py", DEBUGPY)
    entry_point.write("src/pytest.py", "import sys; print(sys.argv[1:])")
    assert entry_point("local", "test", "--debug", "-x").stdout.splitlines()[-1] == "['-x']"


# ---------------------------------------------------------------------------- secrets


def test_secrets_are_read_as_data_and_never_printed(entry_point: EntryPoint):
    key = "a=$(touch ran) `touch ran` #b;'\""
    entry_point.write("secrets.env", f"# mine\r\n\r\nWANDB_API_KEY={key}\r\n")
    entry_point.write("tasks/simple.py", "import os, sys; sys.exit(os.environ['WANDB_API_KEY'] != sys.stdin.read())")
    run = subprocess.run(
        [entry_point.bin / "bash", entry_point.folder / "run_manual.sh", "local", "tasks/simple.py"],
        env=entry_point.make_environment(),
        input=key,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not (entry_point.folder / "ran").exists()


def test_secrets_may_begin_with_a_byte_order_mark(entry_point: EntryPoint):
    entry_point.write("secrets.env", "\ufeffWANDB_API_KEY=of the file\n")
    assert read_output(entry_point("local", "tasks/simple.py"))["key"] == "of the file"


def test_environment_variables_override_secrets_env(entry_point: EntryPoint):
    entry_point.write("secrets.env", "WANDB_API_KEY=of the file")
    assert read_output(entry_point("local", "tasks/simple.py"))["key"] == "of the file"
    assert read_output(entry_point("local", "tasks/simple.py", WANDB_API_KEY="mine"))["key"] == "mine"


@pytest.mark.parametrize("configuration", ["local", "jax-cpu"])
@pytest.mark.parametrize("line", ["hidden", "WANDB_API_KEY = hidden", "WANDB_API_KEY='hidden'", 'export KEY="hidden"'])
def test_invalid_secrets_line_is_reported_by_number(entry_point: EntryPoint, configuration: str, line: str):
    entry_point.write("secrets.env", f"# mine\n{line}\n")
    reason = read_error_line(entry_point(configuration, "tasks/simple.py"), 1)
    assert "secrets.env, line 2" in reason
    assert "hidden" not in reason


# ---------------------------------------------------------------------------- containers


def get_option_values(options: list[str], name: str) -> list[str]:
    """Return the values of every option called `name`."""
    return [value for option, value in pairwise(options) if option == name]


def test_container_mounts_the_project_and_runs_as_the_caller(entry_point: EntryPoint):
    assert entry_point("jax-cpu", "tasks\\simple.py", "--name", "two words", "").returncode == 0
    options, program = entry_point.read_container_arguments()
    assert program == ["tasks/simple.py", "--name", "two words", ""]
    assert get_option_values(options, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert get_option_values(options, "--env") == [
        "HOME=/tmp",
        "THINKING_LAUNCHER=./run_manual.sh jax-cpu",
        "JAX_COMPILATION_CACHE_DIR=/cache/compiled",
    ]
    assert {"--rm", "--init"} <= set(options)
    assert int(get_option_values(options, "--stop-timeout")[0]) >= 60
    assert not {"--gpus", "--publish", "--tty", "--env-file"} & set(options)
    assert get_option_values(options, "--volume") == [
        f"{entry_point.folder}/src:/app/src:ro",
        f"{entry_point.folder}/tasks:/app/tasks:ro",
        f"{entry_point.folder}/artifacts:/app/artifacts",
        f"{entry_point.folder}/cache/thinking:/cache",
    ]
    assert (entry_point.folder / "cache/thinking").is_dir(), "else Docker would make it, as root"


def test_rootless_container_runs_as_root(entry_point: EntryPoint):
    entry_point("jax-cpu", "tasks/simple.py", FAILING="rootless")
    assert get_option_values(entry_point.read_container_arguments()[0], "--user") == ["0:0"]


def test_test_argument_mounts_the_files_that_tests_read(entry_point: EntryPoint):
    entry_point.write("tests/test_it.py", "")
    files = ["pyproject.toml", "Dockerfile.torch-cpu", ".gitattributes"]
    for name in files:
        entry_point.write(name, "")
    entry_point("jax-cpu", "test", "-x")
    options, program = entry_point.read_container_arguments()
    assert program == ["-m", "pytest", "-x"]
    mounted_paths = {volume.split(":")[1] for volume in get_option_values(options, "--volume")}
    files += ["src", "tasks", "tests", "run_manual.sh", "requirements", "secrets.env.example"]
    assert {f"/app/{name}" for name in files} <= mounted_paths
    assert not any("*" in path for path in mounted_paths), "a pattern that nothing fitted"
    assert not any("secrets.env:" in volume for volume in get_option_values(options, "--volume"))


@pytest.mark.parametrize(
    ("name", "gpus"), [("jax-cpu", []), ("jax-gpu", ["all"]), ("torch-cpu", []), ("torch-gpu", ["all"])]
)
def test_configuration_runs_its_image_and_requests_gpus(entry_point: EntryPoint, name: str, gpus: list[str]):
    assert entry_point(name, "tasks/simple.py").returncode == 0
    assert get_option_values(entry_point.read_container_arguments()[0], "--gpus") == gpus
    assert f"thinking:{name}" in entry_point.read_docker_calls()[-1]
    build = next(call for call in entry_point.read_docker_calls() if call[0] == "build")
    assert build[1:5] == ["--file", f"Dockerfile.{name}", "--tag", f"thinking:{name}"]


def test_build_receives_the_package_index_as_a_secret(entry_point: EntryPoint):
    run = entry_point("torch-cpu", "tasks/simple.py", PIP_EXTRA_INDEX_URL="file:hidden")
    build = next(call for call in entry_point.read_docker_calls() if call[0] == "build")
    assert get_option_values(build, "--secret") == ["id=PIP_EXTRA_INDEX_URL,env=PIP_EXTRA_INDEX_URL"]
    assert "hidden" not in run.stdout + run.stderr + str(entry_point.read_docker_calls())


def test_container_exit_status_is_forwarded(entry_point: EntryPoint):
    assert entry_point("jax-cpu", "tasks/simple.py", STATUS="130").returncode == 130


def test_signals_are_forwarded_to_the_container(entry_point: EntryPoint):
    with entry_point.start("jax-cpu", "tasks/simple.py", "--wait") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


@pytest.mark.parametrize("flags", [["--artifacts", "{folder}"], ["--artifacts={folder}"]])
def test_custom_artifacts_folder_is_mounted(entry_point: EntryPoint, tmp_path: Path, flags: list[str]):
    artifacts = tmp_path / "else where"
    entry_point("jax-cpu", "tasks/simple.py", *[flag.format(folder=artifacts) for flag in flags])
    assert f"{artifacts}:{artifacts}" in get_option_values(entry_point.read_container_arguments()[0], "--volume")
    assert artifacts.is_dir()
    entry_point("jax-cpu", "tasks/simple.py", *[flag.format(folder="runs/two") for flag in flags])
    assert f"{entry_point.folder}/runs/two:/app/runs/two" in get_option_values(
        entry_point.read_container_arguments()[0], "--volume"
    )


@pytest.mark.parametrize("flags", [["--artifacts", "./artifacts"], ["--artifacts=artifacts/mine"]])
def test_artifacts_within_the_project_are_mounted_once(entry_point: EntryPoint, flags: list[str]):
    assert entry_point("jax-cpu", "tasks/simple.py", *flags).returncode == 0
    targets = [
        volume.split(":")[1] for volume in get_option_values(entry_point.read_container_arguments()[0], "--volume")
    ]
    assert [target for target in targets if "artifacts" in target] == ["/app/artifacts"]


@pytest.mark.parametrize("folder", ["artifacts/../../x", "../x", "/tmp/a:b"])
def test_folders_that_a_container_would_lose_are_refused(entry_point: EntryPoint, folder: str):
    assert "use: local" in read_error_line(entry_point("jax-cpu", "tasks/simple.py", "--artifacts", folder), 2)


def test_relative_paths_in_a_container_are_of_the_folder_of_the_caller(entry_point: EntryPoint, tmp_path: Path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/goals.txt").write_text("x")
    (tmp_path / "g.txt").write_text("a b")
    flags = ("--graph.path", "g.txt", "--goals=./artifacts/goals.txt", "--artifacts", "out", "--plan", "1")
    assert entry_point("jax-cpu", "tasks/simple.py", *flags, cwd=tmp_path).returncode == 0
    options, program = entry_point.read_container_arguments()
    assert program == ["/app/tasks/simple.py", *flags]
    assert get_option_values(options, "--workdir") == [str(tmp_path)]
    assert (tmp_path / "out").is_dir()
    names = {"g.txt": ":ro", "artifacts/goals.txt": ":ro", "out": ""}
    expected = {f"{tmp_path}/{name}:{tmp_path}/{name}{mode}" for name, mode in names.items()}
    volumes = {volume.replace("/./", "/") for volume in get_option_values(options, "--volume")}
    assert {volume for volume in volumes if not volume.split(":")[1].startswith(("/app", "/cache"))} == expected


def test_results_of_a_container_lie_in_the_project_unless_a_flag_says_where(entry_point: EntryPoint, tmp_path: Path):
    assert entry_point("jax-cpu", "tasks/simple.py", cwd=tmp_path).returncode == 0
    options, program = entry_point.read_container_arguments()
    assert program == ["/app/tasks/simple.py", "--artifacts", "/app/artifacts"]
    assert f"{entry_point.folder}/artifacts:/app/artifacts" in get_option_values(options, "--volume")
    assert not Path("/app").exists(), "a folder of the container, made on this machine"


def test_files_that_flags_name_are_mounted_to_be_read(entry_point: EntryPoint, tmp_path: Path):
    outside = tmp_path / "my graph.txt"
    outside.write_text("a b")
    entry_point.write("data/goals.txt", "x")
    entry_point("jax-cpu", "tasks/simple.py", f"--graph.path={outside}", "--goals", "./data/goals.txt", "--seed", "3")
    options, _ = entry_point.read_container_arguments()
    volumes = get_option_values(options, "--volume")
    assert f"{outside}:{outside}:ro" in volumes
    assert f"{entry_point.folder}/data/goals.txt:/app/data/goals.txt:ro" in volumes
    assert get_option_values(options, "--add-host") == ["host.docker.internal:host-gateway"]


def test_container_publishes_the_debug_port_on_loopback_only(entry_point: EntryPoint):
    entry_point("jax-cpu", "tasks/simple.py", "--debug", "--seed", "3")
    options, program = entry_point.read_container_arguments()
    assert get_option_values(options, "--publish") == [f"127.0.0.1:{PORT}:{PORT}"]
    assert program[-5:] == ["0.0.0.0", str(PORT), "tasks/simple.py", "--seed", "3"]


def test_secrets_reach_the_container_outside_the_command_line(entry_point: EntryPoint):
    entry_point.write("secrets.env", "WANDB_API_KEY=hidden\n")
    run = entry_point("jax-cpu", "tasks/simple.py", WANDB_API_KEY="also hidden")
    options, _ = entry_point.read_container_arguments()
    assert get_option_values(options, "--env-file") == ["secrets.env"]
    assert "WANDB_API_KEY" in get_option_values(options, "--env")
    assert "hidden" not in run.stdout + run.stderr + str(entry_point.read_docker_calls())


@pytest.mark.parametrize(
    ("failing", "name", "reasons"),
    [
        ("daemon", "jax-gpu", ["the Docker daemon does not answer; start it"]),
        ("closed", "jax-gpu", ["join its group"]),
        ("gpu", "jax-gpu", ["Docker finds no GPU; install NVIDIA's driver (525 or later)", "use jax-cpu"]),
        ("gpu", "torch-gpu", ["Docker finds no GPU; install NVIDIA's driver (580 or later)", "use torch-cpu"]),
    ],
)
def test_docker_problems_are_reported_in_one_line(entry_point: EntryPoint, failing: str, name: str, reasons: list[str]):
    error_line = read_error_line(entry_point(name, "tasks/simple.py", FAILING=failing), 1)
    assert all(reason in error_line for reason in reasons)


def test_missing_docker_is_reported(entry_point: EntryPoint):
    (entry_point.bin / "docker").unlink()
    assert "Docker is not installed" in read_error_line(entry_point("jax-cpu", "tasks/simple.py"), 1)


@pytest.mark.parametrize("failing", ["first build", "build"])
def test_failed_build_shows_its_log_and_runs_nothing(entry_point: EntryPoint, failing: str):
    run = entry_point("jax-cpu", "tasks/simple.py", FAILING=failing)
    assert run.returncode == 1
    assert "step 3 broke" in run.stderr
    assert run.stderr.splitlines()[-1] == "run_manual.sh: could not build Dockerfile.jax-cpu"
    assert "run" not in [call[0] for call in entry_point.read_docker_calls()]


def test_only_the_first_build_is_announced(entry_point: EntryPoint):
    assert "building Dockerfile.jax-cpu" in entry_point("jax-cpu", "tasks/simple.py", FAILING="image").stderr
    assert entry_point("jax-cpu", "tasks/simple.py").stderr == ""
