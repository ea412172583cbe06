"""Tables on the terminal, of at most 80 columns. Free of JAX."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.measure import Measurement
from rich.table import Table

from thinking import progress
from thinking.errors import show_controls

MAX_WIDTH = 80
MAX_COLUMNS = 6


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> None:
    """Print rows as a table: numbers right-aligned, long words folded.

    Args:
        rows: the rows; a value that is None or missing is shown as `-`.
        columns: headers by name, of the columns that are shown; all under their own names by default. Where a header
            ends with `%`, a fraction is shown in percent. Columns that no row has are left out. Without headers, a
            terminal shows many columns as one.
    """
    console = progress.console()
    names = list(dict.fromkeys(name for row in rows for name in row))
    if columns is None and console.is_terminal and len(names) > MAX_COLUMNS:
        rows, names = [_join_cells(row, names[0]) for row in rows], [names[0], "figures"]
    headers = {name: name for name in names} if columns is None else columns
    headers = {name: header for name, header in headers.items() if name in names}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, header in headers.items():
        is_number = all(isinstance(row.get(name), int | float | None) for row in rows)
        longest = max((len(_format_cell(row.get(name), header)) for row in rows), default=0)
        # The first column names the rows, so it is not folded where there is room.
        is_whole = not table.columns and longest <= min(console.width, MAX_WIDTH) // 3
        justify = "right" if is_number else "left"
        table.add_column(show_controls(header), justify=justify, overflow="fold", no_wrap=is_whole)
    for row in rows:
        table.add_row(*(show_controls(_format_cell(row.get(name), header)) for name, header in headers.items()))
    if console.is_terminal:
        console.print(table, width=min(console.width, MAX_WIDTH))
    else:
        # A pipe has no width, so each row is one line, for `grep` and `awk`.
        width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        progress.PlainConsole(width).print(table)


def _join_cells(row: Mapping[str, Any], first: str) -> dict[str, Any]:
    """A row of two columns: the first, and all others with their names."""
    others = [
        f"{name} {_format_cell(value, name)}" for name, value in row.items() if name != first and value is not None
    ]
    return {first: row.get(first), "figures": ", ".join(others)}


def _format_cell(value: Any, header: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if header.endswith("%"):
            return f"{100 * value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
