"""Where runs are: `ARTIFACTS/TASK/NAME`, and `ARTIFACTS/TASK/latest` for the one that was started last."""

import contextlib
import os
from pathlib import Path

CONFIG_FILE = "config.json"
RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"
LATEST = "latest"


def list_runs(task_folder: Path) -> list[Path]:
    """The folders of a task's runs, by their last start, oldest first."""
    configs = [path for path in task_folder.glob(f"*/{CONFIG_FILE}") if path.parent.name != LATEST]
    return [path.parent for path in sorted(configs, key=lambda path: (path.stat().st_mtime_ns, path))]


def find_latest(task_folder: Path) -> Path | None:
    """The folder that `latest` points to, or else the run that was started last. None without runs."""
    link = task_folder / LATEST
    if link.is_symlink() and (link / CONFIG_FILE).is_file():
        return task_folder / os.readlink(link)
    return next(reversed(list_runs(task_folder)), None)


def find_by_digest(task_folder: Path, digest: str) -> Path | None:
    """The run whose name ends with a digest; what is before it may change with the presets."""
    return next((folder for folder in list_runs(task_folder) if folder.name.rpartition("-")[2] == digest), None)


def point_latest(folder: Path) -> None:
    """Let `latest` beside a run's folder point to it, by a relative link."""
    temporary = folder.parent / f".{LATEST}.{os.getpid()}.tmp"
    # Some file systems have no links; `find_latest` does without.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(folder.parent / LATEST)
