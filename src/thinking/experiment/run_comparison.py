"""Runs of one task beside each other: what differs in their configs, and what came out. Free of JAX."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from thinking.errors import UserError
from thinking.experiment.config_fields import RunConfig, flatten
from thinking.experiment.run_records import RunRecord, read_run
from thinking.experiment.settings import format_value, list_settings, to_flag
from thinking.experiment.summary import thinking_command
from thinking.experiment.tables import format_cell

TextCells: TypeAlias = tuple[tuple[str, str], ...]
"""The text cells of a row, by column, which identify it."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GENERAL = {setting.path for setting in list_settings(RunConfig())}
"""Settings that do not tell configs apart: the seed, and where and how to write."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds.

    Attributes:
        label: a letter.
        records: of its runs.
        differences: settings that differ among the groups, by flag; None where the saved config has no such setting.
    """

    label: str
    records: list[RunRecord]
    differences: dict[str, Any]

    @property
    def seeds(self) -> str:
        """As `0, 1, 2`: `--seed`, the first seed of each run."""
        return ", ".join(str(record.saved["config"].get("seed")) for record in self.records)


def read_groups(folders: Sequence[Path]) -> list[Group]:
    """Read runs, and group those that differ in nothing but their seeds.

    Args:
        folders: of the runs; one that is given twice counts once.

    Raises:
        UserError: fewer than two runs, more than 26 configs, runs of several tasks, or one without results.
        RunError: the files of a run cannot be read.
    """
    records = [read_run(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    if len(records) < 2:
        raise UserError(f"compare: give two different runs or more; see: {thinking_command()} runs")
    tasks = list(dict.fromkeys(str(record.saved.get("task")) for record in records))
    if len(tasks) > 1:
        raise UserError(f"compare: allowed are runs of one task, and these are of {', '.join(tasks)}")
    for record in records:
        if not record.results:
            command = record.saved.get("command")
            raise UserError(f"{record.name} has no results yet ({record.state}); go on with: {command}")
    by_config: list[tuple[dict[str, Any], list[RunRecord]]] = []
    for record in records:
        values = _find_identity(record)
        same = next((members for known, members in by_config if known == values), None)
        if same is None:
            by_config.append((values, [record]))
        else:
            same.append(record)
    if len(by_config) > len(_LETTERS):
        raise UserError(f"compare: allowed are {len(_LETTERS)} configs, and these are {len(by_config)}; name fewer")
    configs = [values for values, _ in by_config]
    flags = [
        flag
        for flag in dict.fromkeys(flag for values in configs for flag in values)
        if any(values.get(flag) != configs[0].get(flag) for values in configs)
    ]
    return [
        Group(letter, members, {flag: values.get(flag) for flag in flags})
        for letter, (values, members) in zip(_LETTERS, by_config, strict=False)
    ]


def describe_differences(group: Group, max_number: int | None = None) -> str:
    """As `--model.width 64, --guides table`, and how many more there are."""
    words = [f"{flag} {'-' if value is None else format_value(value)}" for flag, value in group.differences.items()]
    shown = words[:max_number]
    more = [f"{len(words) - len(shown)} more"] if len(words) > len(shown) else []
    return ", ".join([*shown, *more]) or "nothing"


def compare_results(groups: Sequence[Group]) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
    """The rows of all groups; rows with the same text cells stand together.

    Figures that differ among the runs of a group are shown as `mean ± standard deviation`.

    Returns:
        Rows, and headers of the columns that the task's own table has, by name; None if it names none.
    """
    averages = [(cells, group, row) for group in groups for cells, row in _average_rows(group)]
    order = list(dict.fromkeys(cells for cells, _, _ in averages))
    averages.sort(key=lambda average: order.index(average[0]))
    columns: dict[str, str] = {}
    for group in groups:
        columns |= group.records[0].results.get("columns") or {}
    rows = [{"run": group.label, **row} for _, group, row in averages]
    return rows, {"run": "run", **columns} if columns else None


def _find_identity(record: RunRecord) -> dict[str, Any]:
    """All settings except the seed, by flag, and digests of the files that were read."""
    values = {to_flag(path): value for path, value in flatten(record.saved["config"]).items() if path not in _GENERAL}
    inputs = {f"content of {name}": str(digest)[:6] for name, digest in record.saved.get("inputs", {}).items()}
    return values | inputs


def _average_rows(group: Group) -> list[tuple[TextCells, dict[str, Any]]]:
    """The averaged rows of a group's runs, each with its text cells.

    Rows are averaged if their text cells are equal and, where a row has no `seed`, also their index in the table.
    """
    collected: dict[tuple[TextCells, int | None], list[Mapping[str, Any]]] = {}
    for record in group.records:
        for place, row in enumerate(record.results.get("rows", [])):
            collected.setdefault((_find_text_cells(row), None if "seed" in row else place), []).append(row)
    headers = group.records[0].results.get("columns") or {}
    averages = []
    for (cells, _), rows in collected.items():
        names = [name for name in rows[0] if name != "seed"]
        averages.append(
            (cells, {name: _average([row.get(name) for row in rows], headers.get(name, name)) for name in names})
        )
    return averages


def _average(values: Sequence[Any], header: str) -> Any:
    """The value that all have, or else mean and deviation of numbers; None where one has no number."""
    if all(value == values[0] for value in values):
        return values[0]
    if not all(isinstance(value, int | float) for value in values):
        return None
    return f"{format_cell(statistics.fmean(values), header)} ± {format_cell(statistics.pstdev(values), header)}"


def _find_text_cells(row: Mapping[str, Any]) -> TextCells:
    """The text cells of a row."""
    return tuple((name, value) for name, value in row.items() if isinstance(value, str))
