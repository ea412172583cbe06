"""What is known of a run without starting it: state, headline, time. Free of JAX."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import filelock

from thinking.errors import RunError, UserError
from thinking.experiment.run_folders import LATEST, RESULTS_FILE, find_by_digest, find_latest, list_runs
from thinking.experiment.saved_config import read_record
from thinking.experiment.summary import name_for_commands


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run as its files describe it.

    Attributes:
        folder: of the run.
        saved: what `config.json` holds.
        results: what `results.json` holds; empty without one.
        state: `finished`, `running`, the last saved step as `guide: step 40`, or `no step yet`.
    """

    folder: Path
    saved: dict[str, Any]
    results: dict[str, Any]
    state: str

    @property
    def name(self) -> str:
        """As `simple/1f3a9c`, by which commands find the run."""
        return name_for_commands(self.folder)

    @property
    def changes(self) -> str:
        """What differs from the defaults, as `smoke, --seed 3`."""
        changed = self.saved.get("changed", {})
        flags = [f"{flag} {_format(value)}".rstrip() for flag, value in changed.items()]
        return ", ".join([str(self.saved.get("preset", "")), *flags])


def read_run(folder: Path) -> RunRecord:
    """Read what is known of a run.

    Raises:
        RunError: its `config.json` cannot be read.
    """
    config = read_record(folder)
    try:
        results = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        results = {}
    except (ValueError, IsADirectoryError) as error:
        raise RunError(f"{folder / RESULTS_FILE} is damaged; run the same command again") from error
    if not isinstance(results, dict):
        raise RunError(f"{folder / RESULTS_FILE} is damaged; run the same command again")
    if _is_running(folder):
        state = "running"
    elif results:
        state = "finished"
    else:
        state = _describe_progress(folder)
    return RunRecord(folder, config, results, state)


def find_run(name: str, artifacts: Path) -> Path:
    """The folder of a run.

    Args:
        name: a folder, or TASK for its latest run, or TASK/NAME, or TASK/DIGEST.
        artifacts: the folder of all runs, for all but the first.

    Raises:
        UserError: there is no such run.
    """
    for path in (Path(name), artifacts / name):
        if path.name == LATEST and (path := find_latest(path.parent) or path).is_dir():
            return path
        if path in list_runs(path.parent):
            return path
        if latest := find_latest(path):
            return latest
        if found := find_by_digest(path.parent, path.name):
            return found
    known = sorted({path.parts[-3] for path in artifacts.glob("*/*/config.json")})
    hint = f"there are runs of {', '.join(known)}" if known else "nothing was run there yet"
    raise UserError(f"{name}: no such run in {artifacts}; {hint}. Give a folder, TASK for its latest run, or TASK/NAME")


def _is_running(folder: Path) -> bool:
    """Whether a process holds the lock."""
    path = folder.resolve().parent / f".{folder.resolve().name}.lock"
    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # a folder that this user may not write has no run of this user
        return False
    lock.release()
    return False


def _describe_progress(folder: Path) -> str:
    """The stage that was saved last, and its step."""
    saved = [path for path in folder.glob("checkpoints/*/*") if path.name.isdecimal()]
    if not saved:
        return "no step yet"
    newest = max(saved, key=lambda path: (path.stat().st_mtime_ns, int(path.name)))
    return f"{newest.parent.name}: step {newest.name}"


def _format(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
