"""The folder of a run: lock, config and clearing."""

import contextlib
import dataclasses
import hashlib
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

from thinking.errors import RunError
from thinking.experiment.config import RunConfig, list_changes, to_json
from thinking.experiment.settings import list_choices, settings
from thinking.files import is_temporary, parse_json, sweep, write_json

MetricWriter = Callable[[str, int, Mapping[str, float]], None]  # (stage, step, figures)

FORMAT_VERSION = 3
"""Format of `config.json`; folders of another format are refused."""
_MAX_DIFFERENCES = 4
"""Maximum number of differences in a message."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_ROUNDING_VERSIONS = ("python", "jax", "jaxlib")
"""Versions on which the rounding of a training step depends."""
_RUN_ENTRIES = frozenset(
    (
        *("config.json", "results.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "plots", "videos"),
        *("tensorboard", "wandb", "cache", "report.html", "report.json", "guide", "flat"),
        *("plans.json", "plans.jsonl", "plans.safetensors"),
        *("texts.jsonl", "steps.jsonl", "goals.jsonl", "embeddings.safetensors", "manifest.json"),
    )
)
"""What runs write into their folders, and `--clear` deletes."""


class _SavedConfig(TypedDict, extra_items=Any):
    """What a run reads of the `config.json` of the run before."""

    config: dict[str, Any]
    inputs: dict[str, str]
    versions: dict[str, str | None]


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
        RunError: the folder is a link, cannot be written, is in use, or has weights of another config or of data that
            have changed since.
    """
    folder = config.artifacts / name
    if folder.is_symlink():
        raise RunError(f"{folder} is a link; give the folder that it points to with --artifacts DIR, or remove it")
    try:
        str(folder.resolve()).encode()
        folder.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError as error:
        raise RunError(f"{folder} has a name that is no UTF-8; choose another folder with --artifacts DIR") from error
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}; choose a folder with --artifacts DIR") from error
    with lock_run(folder):
        _refuse_changes(folder, config)
        sweep(folder)
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


def clear(name: str, config: RunConfig) -> tuple[Path, list[str]]:
    """Delete what runs wrote into the folder of a task, if it exists.

    Returns:
        The folder, and the names of what is left in it, as no run wrote that.

    Raises:
        RunError: the folder is in use, is a link or a file, or cannot be emptied.
    """
    folder = config.artifacts / name
    if folder.is_symlink():
        raise RunError(f"{folder} is a link; remove it yourself, or empty the folder it points to")
    if not folder.exists():
        return folder, []
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not the folder of a run; remove it yourself")
    with lock_run(folder):
        try:
            is_run = (folder / "config.json").is_file() or (folder / "checkpoints").is_dir()
            for entry in [entry for entry in folder.iterdir() if is_run and _is_of_a_run(entry)]:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            return folder, sorted(entry.name for entry in folder.iterdir())
        except OSError as error:
            raise RunError(f"cannot empty {folder}: {error.strerror}") from error


def _is_of_a_run(entry: Path) -> bool:
    """Whether a run wrote it; a killed run may leave a temporary file."""
    return entry.name in _RUN_ENTRIES or is_temporary(entry)


def write_config(run: Run, device: dict[str, Any]) -> None:
    """Write `config.json`: config, versions, device and git commit."""
    record = {
        "format": FORMAT_VERSION,
        "task": run.folder.name,
        "config": to_json(run.config),
        "inputs": hash_inputs(run.config),
        "versions": _list_versions(),
        "device": device,
        "cpu_count": os.cpu_count(),
        "git": _git_status(),
    }
    write_json(run.folder / "config.json", record)


def _refuse_changes(folder: Path, config: RunConfig) -> None:
    """Refuse another config, or other data, if the folder has weights or results."""
    path = folder / "config.json"
    if not any(folder.glob("checkpoints/*/*")) and not (folder / "results.json").exists():
        return
    hint = "empty it with --clear, or choose another folder with --artifacts DIR"
    if not path.exists():
        raise RunError(f"{folder} has weights or results, but no config.json that says of what; {hint}")
    try:
        content = path.read_bytes()
        if parse_json(content, dict[str, Any]).get("format") != FORMAT_VERSION:
            raise RunError(f"{folder} was written by another version of the program; {hint}")
        saved = parse_json(content, _SavedConfig)
    except (ValueError, IsADirectoryError) as error:
        raise RunError(f"{path} is damaged ({error}); empty the folder with --clear") from error
    differences = list_changes(saved["config"], config)
    differences += [
        f"{flag}: the content has changed"
        for flag, digest in hash_inputs(config).items()
        if saved["inputs"].get(flag, digest) != digest
    ]
    if differences:
        listed = "; ".join(differences[:_MAX_DIFFERENCES])
        more = f"; and {len(differences) - _MAX_DIFFERENCES} more" if len(differences) > _MAX_DIFFERENCES else ""
        raise RunError(f"{folder} holds a run of another config ({listed}{more}); {hint}")
    _warn_of_other_versions(folder, saved["versions"])


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


def hash_inputs(config: RunConfig) -> dict[str, str]:
    """A digest of each file and folder that a setting names and weights depend on, by flag."""
    named = [setting for setting in settings(config) if setting.affects_weights and not list_choices(setting.hint)]
    paths = {setting.flag: Path(setting.value) for setting in named if isinstance(setting.value, Path | str)}
    try:
        return {flag: _hash_path(path) for flag, path in paths.items() if path.name and path.exists()}
    except OSError as error:
        raise RunError(f"cannot read {error.filename}: {error.strerror}; make it readable, or name another") from error


def _hash_path(path: Path) -> str:
    """A digest of a file, or of names and contents of all files below a folder."""
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path)} {content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


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
    command = ["git", "-C", str(Path(sys.argv[0]).resolve().parent)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
