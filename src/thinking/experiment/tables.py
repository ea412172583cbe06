"""Tables as text, and on the terminal, of at most 80 columns. Free of JAX."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.measure import Measurement
from rich.table import Table

from thinking import progress
from thinking.errors import escape_controls

MAX_WIDTH = 80
MAX_COLUMNS = 6


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table as it is shown.

    Attributes:
        headers: of its columns.
        is_number: of each column, whether it holds nothing but numbers.
        rows: the cells.
    """

    headers: list[str]
    is_number: list[bool]
    rows: list[list[str]]


def format_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> TextTable:
    """Rows as text.

    Args:
        rows: the rows; a value that is None or missing is shown as `-`.
        columns: headers by name, of the columns that are shown; all under their own names by default. Where a header
            ends with `%`, a fraction is shown in percent. Columns that no row has are left out.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    headers = {name: name for name in names} if columns is None else columns
    headers = {name: header for name, header in headers.items() if name in names}
    return TextTable(
        list(headers.values()),
        [all(isinstance(row.get(name), int | float | None) for row in rows) for name in headers],
        [[format_cell(row.get(name), header) for name, header in headers.items()] for row in rows],
    )


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> None:
    """Print rows as a table: numbers right-aligned, long words folded.

    Args:
        rows: the rows.
        columns: headers by name, see `format_rows`. Without them, a terminal shows many columns as one.
    """
    console = progress.console()
    names = list(dict.fromkeys(name for row in rows for name in row))
    if columns is None and console.is_terminal and len(names) > MAX_COLUMNS:
        rows = [_join_cells(row, names[0]) for row in rows]
    shown = format_rows(rows, columns)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, (header, is_number) in enumerate(zip(shown.headers, shown.is_number, strict=True)):
        longest = max((len(cells[index]) for cells in shown.rows), default=0)
        # The first column names the rows, so it is not folded where there is room.
        is_whole = not table.columns and longest <= min(console.width, MAX_WIDTH) // 3
        justify = "right" if is_number else "left"
        table.add_column(escape_controls(header), justify=justify, overflow="fold", no_wrap=is_whole)
    for cells in shown.rows:
        table.add_row(*map(escape_controls, cells))
    if console.is_terminal:
        console.print(table, width=min(console.width, MAX_WIDTH))
    else:
        # A pipe has no width, so each row is one line, for `grep` and `awk`.
        width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        progress.PlainConsole(width).print(table)


def _join_cells(row: Mapping[str, Any], first: str) -> dict[str, Any]:
    """A row of two columns: the first, and all others with their names."""
    others = [
        f"{name} {format_cell(value, name)}" for name, value in row.items() if name != first and value is not None
    ]
    return {first: row.get(first), "figures": ", ".join(others)}


def format_cell(value: Any, header: str) -> str:
    """A value below a header, as in `format_rows`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if header.endswith("%"):
            return f"{100 * value:.1f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
