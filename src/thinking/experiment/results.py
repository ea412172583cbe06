"""Results of a run: `results.json` and a table on the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.measure import Measurement
from rich.table import Table

from thinking import progress
from thinking.errors import show_controls
from thinking.experiment import folder
from thinking.trees import digest

__all__ = ["digest", "print_rows", "write_results"]


def write_results(run: folder.Run, rows: Sequence[Mapping[str, Any]], state: Any, **metrics: Any) -> None:
    """Write `results.json` atomically, and print its rows as a table.

    Args:
        run: the run.
        rows: one flat mapping per compared model, with units in the names. Non-finite numbers become null.
        state: the final state, a PyTree; its digest is written as `state_digest`.
        **metrics: further results, written beside `rows`.
    """
    plain = [{name: _to_plain(value) for name, value in row.items()} for row in rows]
    record = {
        "rows": plain,
        **{name: _to_plain(value) for name, value in metrics.items()},
        "state_digest": digest(state),
    }
    folder.write_json(run.folder / "results.json", record)
    print_rows(plain)


def _to_plain(value: Any) -> Any:
    """A JSON value; scalars and arrays of NumPy and JAX become numbers and lists."""
    if isinstance(value, Mapping):
        return {str(name): _to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _to_plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table: one column per name, numbers right-aligned."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(show_controls(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(show_controls(_format_cell(row.get(column))) for column in columns))
    console = progress.console()
    if not console.is_terminal:
        # A pipe has no width, so each row is one line, for `grep` and `awk`.
        width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console = progress.PlainConsole(width)
    console.print(table)


def _format_cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
