"""The folder of a run: lock, config and clearing."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
from typing_extensions import TypedDict

from thinking.errors import RunError, UserError
from thinking.experiment.config_fields import RunConfig, list_changes, to_json
from thinking.experiment.identity import describe_config, hash_inputs
from thinking.experiment.run_folders import CONFIG_FILE, LATEST, REPORT_FILE, RESULTS_FILE, find_latest, point_latest
from thinking.experiment.saved_config import CLEAR_HINT, FORMAT_VERSION, read_record
from thinking.files import is_temporary, parse_json, sweep, write_json

MetricWriter = Callable[[str, int, Mapping[str, float]], None]  # (stage, step, figures)

_MAX_DIFFERENCES = 4
"""Maximum number of differences in a message."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_ROUNDING_VERSIONS = ("python", "jax", "jaxlib")
"""Versions on which the rounding of a training step depends."""
_RUN_ENTRIES = frozenset(
    (
        *(CONFIG_FILE, RESULTS_FILE, "metrics.jsonl", "samples.jsonl", "checkpoints", "plots", "videos"),
        *("tensorboard", "wandb", "cache", REPORT_FILE, "guide", "flat"),
        *("plans.html", "plans.json", "plans.jsonl", "plans.safetensors"),
        *("texts.jsonl", "steps.jsonl", "goals.jsonl", "embeddings.safetensors", "manifest.json"),
    )
)
"""What runs write into their folders, and `--clear` deletes."""


class _Timed(TypedDict, extra_items=Any):
    """What is read of `config.json` to add up the time of all starts."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a task.

    Attributes:
        folder: `DIR/TASK/NAME`, locked by this process.
        config: the task's config.
        metric_writers: functions that also receive the metrics.
    """

    folder: Path
    config: Any
    metric_writers: tuple[MetricWriter, ...] = ()

    @property
    def task(self) -> str:
        """The task's name."""
        return self.folder.parent.name

    @property
    def plots_folder(self) -> Path:
        """The folder of plots, created on first use."""
        path = self.folder / "plots"
        path.mkdir(exist_ok=True)
        return path

    def log(self, text: str) -> None:
        """Print a line above any progress bar."""
        from thinking import progress

        progress.log(text)


@contextlib.contextmanager
def open_run(folder: Path, config: RunConfig) -> Iterator[Run]:
    """Create and lock the folder of a run, and let `latest` beside it point to it.

    If the input turns out bad before the run wrote anything, the folder is removed again.

    Args:
        folder: `DIR/TASK/NAME`, from `locate_run`.
        config: the task's config.

    Raises:
        RunError: the folder is a link, cannot be written, is in use, or has weights of another config.
    """
    parent = folder.parent
    _refuse_link(parent, "give the folder that it points to with --artifacts DIR, or remove it")
    try:
        str(folder.resolve()).encode()
        parent.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError as error:
        raise RunError(f"{folder} has a name that is no UTF-8; choose another folder with --artifacts DIR") from error
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}; choose a folder with --artifacts DIR") from error
    with lock_run(folder):
        _refuse_link(folder, "remove it")
        folder.mkdir(exist_ok=True)
        _refuse_changes(folder, config)
        sweep(folder)
        before = find_latest(parent)
        point_latest(folder)
        try:
            yield Run(folder=folder, config=config)
        except UserError:
            if not any(path.is_file() and path.name != CONFIG_FILE for path in folder.rglob("*")):
                _remove_empty(folder, before)
            raise


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Lock a folder. The lock file is beside the folder, so that a cleared folder is empty.

    Raises:
        RunError: another process has the lock, or it cannot be written.
    """
    resolved = folder.resolve()  # two names of one folder share one lock
    lock = filelock.FileLock(resolved.parent / f".{resolved.name}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunError(f"{folder} is in use by another run; wait for its end or choose --artifacts DIR") from error
    except OSError as error:
        raise RunError(f"cannot lock {folder}: {error.strerror}; choose a folder with --artifacts DIR") from error
    try:
        yield
    finally:
        lock.release()


def clear(folder: Path) -> list[str]:
    """Delete what a run wrote into its folder, and the folder if nothing else lies there.

    Returns:
        The names of what is left in it, as no run wrote that.

    Raises:
        RunError: the folder is in use, is a link or a file, or cannot be emptied.
    """
    for path in (folder.parent, folder):
        _refuse_link(path, "remove it yourself, or empty the folder it points to")
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not the folder of a run; remove it yourself")
    with lock_run(folder):
        try:
            is_run = (folder / CONFIG_FILE).is_file() or (folder / "checkpoints").is_dir()
            for entry in [entry for entry in folder.iterdir() if is_run and _is_of_a_run(entry)]:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            left = sorted(entry.name for entry in folder.iterdir())
            if not left:
                _remove_empty(folder, None)
            return left
        except OSError as error:
            raise RunError(f"cannot empty {folder}: {error.strerror}") from error


def _remove_empty(folder: Path, latest: Path | None) -> None:
    """Remove the folder of a run that has no file but a config, and let `latest` point to another run."""
    shutil.rmtree(folder)
    if latest is None or latest == folder:
        latest = find_latest(folder.parent)
    if latest is None:
        (folder.parent / LATEST).unlink(missing_ok=True)
    else:
        point_latest(latest)


def _refuse_link(folder: Path, hint: str) -> None:
    if folder.is_symlink():
        raise RunError(f"{folder} is a link; {hint}")


def _is_of_a_run(entry: Path) -> bool:
    """Whether a run wrote it; a killed run may leave a temporary file."""
    return entry.name in _RUN_ENTRIES or is_temporary(entry)


def write_config(
    run: Run, presets: Mapping[str, RunConfig], command: str, device: dict[str, Any], description: str = ""
) -> None:
    """Write `config.json`: config and what differs from the nearest preset, command, versions, device, git commit.

    Args:
        run: the run.
        presets: of the task.
        command: that started it.
        device: of `describe_device`.
        description: what the task shows, in one line.
    """
    preset, changed = describe_config(run.config, presets)
    record = {
        "format": FORMAT_VERSION,
        "task": run.task,
        "description": description,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": _read_seconds(run.folder),
        "command": command,
        "preset": preset,
        "changed": changed,
        "config": to_json(run.config),
        "inputs": hash_inputs(run.config),
        "versions": _list_versions(),
        "device": device,
        "cpu_count": os.cpu_count(),
        "git": _git_status(),
    }
    write_json(run.folder / CONFIG_FILE, record)


def add_seconds(folder: Path, seconds: float) -> None:
    """Add to the `seconds` of `config.json`: the time that all starts of a run took, but for those that were killed."""
    path = folder / CONFIG_FILE
    if path.exists():
        record = parse_json(path.read_bytes(), dict[str, Any])
        write_json(path, record | {"seconds": round(_read_seconds(folder) + seconds, 1)})


def _read_seconds(folder: Path) -> float:
    """The `seconds` of a config that may be missing or damaged, as nothing depends on it."""
    try:
        return parse_json((folder / CONFIG_FILE).read_bytes(), _Timed)["seconds"]
    except (OSError, ValueError):
        return 0.0


def _refuse_changes(folder: Path, config: RunConfig) -> None:
    """Refuse another config, or other data, if the folder has weights or results."""
    if not any(folder.glob("checkpoints/*/*")) and not (folder / RESULTS_FILE).exists():
        return
    record = read_record(folder)
    differences = list_changes(record["config"], config)
    if differences:
        listed = "; ".join(differences[:_MAX_DIFFERENCES])
        more = f"; and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
        raise RunError(f"{folder} holds a run of another config ({listed}{more}); {CLEAR_HINT}")
    _warn_of_other_versions(folder, record["versions"])


def _warn_of_other_versions(folder: Path, before: Mapping[str, str | None]) -> None:
    now = _list_versions()
    changed = [
        f"{name} {before[name]}, now {now[name]}"
        for name in _ROUNDING_VERSIONS
        if before.get(name, now[name]) != now[name]
    ]
    if changed:
        from thinking import progress

        progress.warn(f"{folder} was trained with {', '.join(changed)}: it goes on, but not with the same bits")


def _list_versions() -> dict[str, str | None]:
    versions = {"python": platform.python_version(), "thinking": _version("thinking")}
    return versions | {package: _version(package) for package in _PACKAGES}


def _version(package: str) -> str | None:
    if package == "thinking":  # may run from source, not installed
        from thinking import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_status() -> dict[str, Any] | None:
    """The commit of the program's repository and whether tracked files differ, or None without one."""
    program = Path(sys.argv[0]).resolve()
    command = ["git", "-C", str(program.parent)]
    try:
        # An installed program may lie in a repository to which it does not belong.
        subprocess.run([*command, "ls-files", "--error-unmatch", program.name], capture_output=True, check=True)
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
