"""The interface of the benchmark's parts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from thinking.experiment import Run

Row = dict[str, Any]


class Setup(NamedTuple):
    """Inputs of every part.

    Attributes:
        run: its folder takes temporary files.
        gflops: the machine's GFLOP/s in a float32 matrix product.
    """

    run: Run
    gflops: float


@dataclass(frozen=True)
class Measurement:
    """The results of a part.

    Attributes:
        rows: one per measurement, units in the names.
        figures: of the whole run, written beside the rows.
        states: trained states by name; their digest is written.
    """

    rows: list[Row]
    figures: Row = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)


Measure = Callable[[Any, Setup], Measurement]
"""`measure(sizes, setup)`: a part of the benchmark; `sizes` is its group of the config."""
