"""The folder of a run: lock, config and clearing."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from thinking.errors import RunError
from thinking.experiment.config import RunConfig, list_changes, to_json
from thinking.files import write_json

MetricWriter = Callable[[str, int, Mapping[str, float]], None]  # (stage, step, figures)

FORMAT_VERSION = 3
"""Format of `config.json`; folders of another format are refused."""
_MAX_DIFFERENCES = 4
"""Maximum number of differences in a message."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a task.

    Attributes:
        folder: `DIR/NAME`, locked by this process.
        config: the task's config.
        metric_writers: functions that also receive the metrics.
    """

    folder: Path
    config: Any
    metric_writers: tuple[MetricWriter, ...] = ()

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
def open_run(name: str, config: RunConfig) -> Iterator[Run]:
    """Create and lock the folder `config.artifacts/NAME`; refuse a config that conflicts with its contents.

    Raises:
        RunError: the folder cannot be written, is in use, or has weights of another config.
    """
    folder = config.artifacts / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}; choose a folder with --artifacts DIR") from error
    with lock_run(folder):
        _refuse_changes(folder, config)
        yield Run(folder=folder, config=config)


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


def clear(name: str, config: RunConfig) -> Path:
    """Empty the folder of a run, if it exists.

    Returns:
        The folder.

    Raises:
        RunError: the folder is in use, is a link or a file, or cannot be emptied.
    """
    folder = config.artifacts / name
    if folder.is_symlink():
        raise RunError(f"{folder} is a link; remove it yourself, or empty the folder it points to")
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not the folder of a run; remove it yourself")
    with lock_run(folder):
        try:
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        except OSError as error:
            raise RunError(f"cannot empty {folder}: {error.strerror}") from error
    return folder


def write_config(run: Run, device: dict[str, Any]) -> None:
    """Write `config.json`: config, versions, device and git commit."""
    versions = {"python": platform.python_version(), "thinking": _version("thinking")}
    versions |= {package: _version(package) for package in _PACKAGES}
    record = {
        "format": FORMAT_VERSION,
        "task": run.folder.name,
        "config": to_json(run.config),
        "versions": versions,
        "device": device,
        "cpu_count": os.cpu_count(),
        "git": _git_status(),
    }
    write_json(run.folder / "config.json", record)


def _refuse_changes(folder: Path, config: RunConfig) -> None:
    """Refuse another config if the folder has weights or results."""
    path = folder / "config.json"
    has_results = any(folder.glob("checkpoints/*/*")) or (folder / "results.json").exists()
    if not has_results or not path.exists():
        return
    hint = "empty it with --clear, or choose another folder with --artifacts DIR"
    damaged = RunError(f"{path} is damaged; empty the folder with --clear")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged from error
    if not isinstance(record, dict):
        raise damaged
    if record.get("format") != FORMAT_VERSION:
        raise RunError(f"{folder} was written by another version of the program; {hint}")
    if not isinstance(record.get("config"), dict):
        raise damaged
    if differences := list_changes(record["config"], config):
        listed = "; ".join(differences[:_MAX_DIFFERENCES])
        more = f"; and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
        raise RunError(f"{folder} holds a run of another config ({listed}{more}); {hint}")


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
    command = ["git", "-C", str(Path(sys.argv[0]).resolve().parent)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
