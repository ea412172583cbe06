"""What `thinking list`, `thinking runs` and `thinking show` print."""

import datetime
import itertools
from collections.abc import Sequence
from pathlib import Path

from thinking import progress
from thinking.commands.tasks import DURATIONS, describe_task, find_tasks
from thinking.errors import RunError
from thinking.experiment.run_comparison import Group, compare_results, describe_differences
from thinking.experiment.run_folders import list_runs
from thinking.experiment.run_records import RunRecord, read_run
from thinking.experiment.summary import describe_files, format_next, format_seconds, thinking_command
from thinking.experiment.tables import print_rows

_MAX_FILES = 12
_MAX_DIFFERENCES = 4


def print_tasks() -> None:
    """Print all tasks, what each shows, and about how long it takes."""
    print_rows(
        [
            {"task": name, "what it shows": describe_task(file), "about": DURATIONS.get(name)}
            for name, file in find_tasks().items()
        ]
    )
    progress.log(f"start one: {thinking_command()} run simple")


def print_runs(artifacts: Path) -> None:
    """Print all runs of a folder, the last one first, and name those that cannot be read."""
    folders = itertools.chain.from_iterable(list_runs(path) for path in artifacts.glob("*/"))
    records = []
    for folder in folders:
        try:
            records.append(read_run(folder))
        except RunError as error:
            progress.warn(str(error))
    if not records:
        progress.log(f"nothing was run in {artifacts} yet; start with: {thinking_command()} run simple")
        return
    records.sort(key=lambda record: record.saved.get("date", ""), reverse=True)
    print_rows([_make_row(record) for record in records])
    progress.log(f"more of one: {thinking_command()} show {records[0].name}")


def print_run(folder: Path) -> None:
    """Print what came out of a run, what it was, and where its files are."""
    record = read_run(folder)
    config, results = record.saved, record.results
    progress.log(f"{record.name}: {record.state}")
    if "headline" in results:
        progress.log(results["headline"])
    if results.get("rows"):
        print_rows(results["rows"], results.get("columns"))
    versions, git = config.get("versions", {}), config.get("git") or {}
    lines = {
        "config": record.changes,
        "started": f"{_format_date(config)}, and took {format_seconds(config.get('seconds', 0.0))}",
        "command": config.get("command", ""),
        "versions": ", ".join(f"{name} {versions.get(name)}" for name in ("python", "jax", "thinking")),
        "commit": f"{git.get('commit', 'none')[:10]}{', and changes' if git.get('dirty') else ''}",
        "folder": f"{folder}/",
        "files": ", ".join(describe_files(folder)[:_MAX_FILES]),
    }
    for name, line in lines.items():
        progress.log(f"{name + ':':<10}{line}")
    for step in results.get("next", []):
        progress.log(f"{'next:':<10}{format_next(folder, step)}")


def print_comparison(groups: Sequence[Group]) -> None:
    """Print what differs among groups of runs, and what came out."""
    print_rows(
        [
            {
                "run": group.label,
                "seeds": group.seeds,
                "differs in": describe_differences(group, _MAX_DIFFERENCES),
                "runs": ", ".join(record.name for record in group.records),
            }
            for group in groups
        ]
    )
    rows, columns = compare_results(groups)
    print_rows(rows, columns)


def _make_row(record: RunRecord) -> dict[str, str | None]:
    return {
        "run": record.name,
        "config": record.changes,
        "result": record.results.get("headline", "finished") if record.state == "finished" else record.state,
        "started": _format_date(record.saved),
        "took": format_seconds(record.saved.get("seconds", 0.0)),
    }


def _format_date(config: dict) -> str:
    """The date; with its year only if that is not this year."""
    try:
        date = datetime.datetime.fromisoformat(config["date"])
    except (KeyError, ValueError):
        return "-"
    return date.strftime("%d %b %H:%M" if date.year == datetime.datetime.now().year else "%Y-%m-%d")
