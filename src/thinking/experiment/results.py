"""Results of a run: `results.json` and a table on the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thinking.experiment import folder
from thinking.experiment.summary import print_summary
from thinking.experiment.tables import print_rows
from thinking.trees import digest

__all__ = ["digest", "write_results"]


def write_results(
    run: folder.Run,
    rows: Sequence[Mapping[str, Any]],
    state: Any,
    *,
    headline: str | None = None,
    columns: Mapping[str, str] | None = None,
    next_steps: Sequence[str] = (),
    **metrics: Any,
) -> None:
    """Write `results.json` atomically, and print its rows as a table, what was found, and what to do next.

    Args:
        run: the run.
        rows: one flat mapping per compared model, with units in the names. Non-finite numbers become null.
        state: the final state, a PyTree; its digest is written as `state_digest`.
        headline: what was found, in a short sentence.
        columns: headers of the columns that the terminal shows, by name; see `tables.print_rows`.
        next_steps: commands to go on with, without `thinking`; RUN stands for this run, as in `plan RUN 1 29`.
        **metrics: further results, written beside `rows`.
    """
    plain = [{name: _to_plain(value) for name, value in row.items()} for row in rows]
    described = {"headline": headline, "columns": columns, "next": list(next_steps)}
    record = {
        **{name: value for name, value in described.items() if value},
        "rows": plain,
        **{name: _to_plain(value) for name, value in metrics.items()},
        "state_digest": digest(state),
    }
    folder.write_json(run.folder / "results.json", record)
    print_rows(plain, columns)
    print_summary(run.folder, headline, next_steps)


def _to_plain(value: Any) -> Any:
    """A JSON value; scalars and arrays of NumPy and JAX become numbers and lists."""
    if isinstance(value, Mapping):
        return {str(name): _to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _to_plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
