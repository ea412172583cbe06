"""What every part of the benchmark is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from thinking.experiment import Run

Row = dict[str, Any]


class Setup(NamedTuple):
    """What a part may use beside its own sizes.

    Attributes:
        run: whose folder holds what a part writes for a while.
        gflops: what the machine reaches in a float32 matrix product, in GFLOP/s.
    """

    run: Run
    gflops: float


@dataclass(frozen=True)
class Measurement:
    """What a part found.

    Attributes:
        rows: a line of figures for each thing measured, units in the names.
        figures: those of the whole run, written beside the rows.
        states: what was trained, by name; its digest is written.
    """

    rows: list[Row]
    figures: Row = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)


Measure = Callable[[Any, Setup], Measurement]
"""`measure(sizes, setup)`: a part of the benchmark; `sizes` is its group of the config."""
