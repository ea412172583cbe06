"""The page of a comparison: one file that loads nothing. Free of JAX."""

from collections.abc import Sequence
from pathlib import Path

from thinking.errors import UserError
from thinking.experiment import metrics
from thinking.experiment.curves import Curves, collect_curves, make_panels
from thinking.experiment.pages import render_page
from thinking.experiment.run_comparison import Group, compare_results
from thinking.experiment.settings import format_value
from thinking.experiment.tables import TextTable, format_rows
from thinking.files import write_atomic


def write_comparison(groups: Sequence[Group], path: Path) -> None:
    """Write a page: what differs, what came out, and learning curves as mean and deviation over seeds.

    Raises:
        UserError: the path is no HTML file in a folder that exists.
        OSError: it cannot be written.
    """
    if path.suffix != ".html" or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--to {path}: allowed is a file that ends with .html in a folder that exists; leave it out")
    rows, columns = compare_results(groups)
    curves = collect_group_curves(groups)
    task = groups[0].records[0].saved.get("task")
    content = render_page(
        "comparison.html",
        title=f"Comparison: {task}",
        description=groups[0].records[0].saved.get("description", ""),
        runs=_list_runs(groups),
        differences=_list_differences(groups),
        results=format_rows(rows, columns),
        all_columns=format_rows(rows) if columns else None,
        panels=make_panels(curves),
    )
    write_atomic(path, content)


def collect_group_curves(groups: Sequence[Group]) -> Curves:
    """The curves of all groups; a line has the label of its group, and its stage where there are several."""
    by_group = [
        [collect_curves(metrics.read(record.folder), record.saved["config"]) for record in group.records]
        for group in groups
    ]
    stages = {stage for runs in by_group for curves in runs for lines in curves.values() for stage in lines}
    merged: Curves = {}
    for group, runs in zip(groups, by_group, strict=True):
        for curves in runs:
            for metric, lines in curves.items():
                for stage, seeds in lines.items():
                    name = f"{group.label} {stage}" if len(stages) > 1 else group.label
                    merged.setdefault(metric, {}).setdefault(name, []).extend(seeds)
    return merged


def _list_runs(groups: Sequence[Group]) -> TextTable:
    rows = [
        {
            "run": group.label,
            "folder": str(record.folder),
            "seed": record.saved["config"].get("seed"),
            "found": record.results.get("headline"),
            "command": record.saved.get("command"),
        }
        for group in groups
        for record in group.records
    ]
    return format_rows(rows)


def _list_differences(groups: Sequence[Group]) -> TextTable:
    """A row for each setting, a column for each group."""
    rows = [
        {"flag": flag}
        | {group.label: None if (value := group.differences[flag]) is None else format_value(value) for group in groups}
        for flag in groups[0].differences
    ]
    return format_rows(rows)
