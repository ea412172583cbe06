"""The folder of a run: who may write to it, what ran there, and how it is emptied."""

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

Mirror = Callable[[str, int, Mapping[str, float]], None]  # (stage, step, figures)

FORMAT_VERSION = 2
"""The number of what `config.json` looks like; a folder with another one is not read."""
_MAX_DIFFERENCES = 4
"""Differences between two configs that are told, at most."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a task is given.

    Attributes:
        folder: `DIR/NAME`, locked for this process.
        config: the task's config.
        mirrors: who is told the metrics besides `metrics.jsonl`.
    """

    folder: Path
    config: Any
    mirrors: tuple[Mirror, ...] = ()

    @property
    def plots_folder(self) -> Path:
        """The folder of plots, created when it is asked for."""
        path = self.folder / "plots"
        path.mkdir(exist_ok=True)
        return path

    def log(self, text: str) -> None:
        """Print a line without breaking a progress bar."""
        from thinking import progress

        progress.log(text)


@contextlib.contextmanager
def open_run(name: str, config: RunConfig) -> Iterator[Run]:
    """Create and lock the folder `config.artifacts/NAME`, and refuse a config that does not fit what it holds.

    Raises:
        RunError: the folder cannot be written, another run has it, or it holds weights of another config.
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
    """Hold the lock of a folder. It stands beside the folder, so that an emptied folder is empty.

    Raises:
        RunError: another process holds it, or it cannot be written.
    """
    place = folder.resolve()  # two names of one folder share one lock
    lock = filelock.FileLock(place.parent / f".{place.name}.lock")
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
    """Empty the folder of a run; a folder that does not exist is empty.

    Returns:
        The folder.

    Raises:
        RunError: another run has the folder, it is a link or a file, or it cannot be emptied.
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
    """Write `config.json`: what runs, with which versions, on which device, from which commit."""
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
    """Weights and results belong to the config that made them; a folder without either takes any config."""
    path = folder / "config.json"
    holds = any(folder.glob("checkpoints/*/*")) or (folder / "results.json").exists()
    if not holds or not path.exists():
        return
    mend = "empty it with --clear, or choose another folder with --artifacts DIR"
    damaged = RunError(f"{path} is damaged; empty the folder with --clear")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged from error
    if not isinstance(record, dict):
        raise damaged
    if record.get("format") != FORMAT_VERSION:
        raise RunError(f"{folder} was written by another version of the program; {mend}")
    if not isinstance(record.get("config"), dict):
        raise damaged
    if differences := list_changes(record["config"], config):
        told = "; ".join(differences[:_MAX_DIFFERENCES])
        more = f"; and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
        raise RunError(f"{folder} holds a run of another config ({told}{more}); {mend}")


def _version(package: str) -> str | None:
    if package == "thinking":  # may run from its source folder, where no package is installed
        from thinking import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_status() -> dict[str, Any] | None:
    """The commit of the running program's repository and whether files differ from it, or None without one."""
    command = ["git", "-C", str(Path(sys.argv[0]).resolve().parent)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
