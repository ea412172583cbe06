"""Which runs and models are shown: found by name in a list, so no path is ever made of a request. Free of JAX."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from thinking.errors import RunError
from thinking.experiment.report import render_report
from thinking.experiment.run_folders import REPORT_FILE, list_runs
from thinking.experiment.run_records import RunRecord, read_run
from thinking.experiment.summary import format_seconds

Result = TypeVar("Result")

MAX_FILES = 20_000
"""Files of a run that are looked at; with more it is not shown."""
_SHOWN_FOLDERS = (".", "plots", "videos")
_TYPES = {".png": "image/png", ".gif": "image/gif", ".html": "text/html; charset=utf-8"}
_DAMAGE = (RunError, OSError, ValueError, TypeError, LookupError, AttributeError)
"""What reading the files of a damaged run may raise."""


class ShownRun(NamedTuple):
    """A run, as the list shows it.

    Attributes:
        folder_name: TASK/FOLDER.
        trouble: why it cannot be read; empty where it can.
        name: by which commands find it.
        task: of the run.
        config: what differs from the defaults.
        state: as of `RunRecord`.
        headline: what came out; empty if there is nothing yet.
        started: date and time.
        took: how long.
        is_finished: whether there are results.
    """

    folder_name: str
    trouble: str = ""
    name: str = ""
    task: str = ""
    config: str = ""
    state: str = ""
    headline: str = ""
    started: str = ""
    took: str = ""
    is_finished: bool = False


class RunFile(NamedTuple):
    """A file of a run that a browser may open, and its media type."""

    path: Path
    media_type: str


def list_run_folders(artifacts: Path) -> dict[str, Path]:
    """The folders of all runs by TASK/FOLDER; those that links lead to are left out, but for `artifacts` itself."""
    folders = [folder for task in sorted(artifacts.glob("*/")) if not task.is_symlink() for folder in list_runs(task)]
    return {f"{folder.parent.name}/{folder.name}": folder for folder in folders if not folder.is_symlink()}


def list_shown_runs(artifacts: Path) -> list[ShownRun]:
    """All runs, the one that was started last first, then those that cannot be read."""
    runs = [_show(name, folder) for name, folder in list_run_folders(artifacts).items()]
    return sorted(runs, key=lambda run: run.started, reverse=True)


def read_contained_run(folder: Path) -> RunRecord:
    """What is known of a run, all of whose files lie in its folder.

    Raises:
        RunError: its files cannot be read, or a link is among them.
    """
    check_contained(folder)
    return _raise_as_run_error(read_run, folder)


def render_contained_report(folder: Path) -> tuple[RunRecord, bytes]:
    """What is known of a run, and its report as of now.

    Raises:
        RunError: as `read_contained_run`.
    """
    record = read_contained_run(folder)
    return record, _raise_as_run_error(lambda folder: render_report(record, home="/"), folder)


def _raise_as_run_error(function: Callable[[Path], Result], folder: Path) -> Result:
    try:
        return function(folder)
    except RunError:
        raise
    except _DAMAGE as error:
        raise RunError(f"{folder.name} is damaged ({type(error).__name__}: {error})") from error


def check_contained(folder: Path) -> None:
    """Refuse a run with links, which could lead to any file.

    Raises:
        RunError: it has a link, or more files than are looked at.
    """
    remaining = MAX_FILES
    if os.path.islink(folder.parent / f".{folder.name}.lock"):
        raise RunError(f"{folder.name} has a link for its lock, so it is not shown; delete that")
    for root, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            if os.path.islink(os.path.join(root, entry)):
                raise RunError(f"{folder.name} has a link in it ({entry}), so it is not shown; replace it by the file")
        remaining -= len(files)
        if remaining < 0:
            raise RunError(f"{folder.name} has more than {MAX_FILES} files, so it is not shown")


def list_run_files(folder: Path) -> dict[str, RunFile]:
    """The pictures and pages that a run's report may link to, by their paths within its folder."""
    files = [path for name in _SHOWN_FOLDERS for path in sorted((folder / name).glob("*")) if path.suffix in _TYPES]
    return {
        path.relative_to(folder).as_posix(): RunFile(path, _TYPES[path.suffix])
        for path in files
        if path.is_file() and path.name != REPORT_FILE
    }


def _show(name: str, folder: Path) -> ShownRun:
    try:
        record = read_contained_run(folder)
        return _raise_as_run_error(lambda _: _describe(name, record), folder)
    except RunError as error:
        return ShownRun(name, str(error))


def _describe(name: str, record: RunRecord) -> ShownRun:
    config, results = record.saved, record.results
    return ShownRun(
        name,
        name=record.name,
        task=str(config.get("task")),
        config=record.changes,
        state=record.state,
        headline=str(results.get("headline") or ""),
        started=str(config.get("date", ""))[:16].replace("T", " "),
        took=format_seconds(config.get("seconds", 0.0)),
        is_finished=bool(results),
    )
