"""Learning curves of `metrics.jsonl` as panels of a page: averaged over seeds, thinned, and placed in SVG. Free of JAX.

Axes: P points of a line.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from matplotlib.ticker import MaxNLocator

Curve: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""Ascending training steps, and a metric at each."""
Curves: TypeAlias = dict[str, dict[str, list[Curve]]]
"""For each metric and name of a line, the curves that the line is the mean of."""

MAX_LINES = 40
"""Lines of a panel."""
_MAX_POINTS = 200
_MIN_POINTS = 20
_MAX_TOTAL_POINTS = 20_000
"""Points of all lines of a page, but for the fewest that a line has."""
_NOT_METRICS = ("stage", "step")
_TELLING = re.compile(r"loss$|accuracy|exact_match|return|reward$|solved|bits_per_byte|f1")


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a panel, as SVG.

    Attributes:
        name: of a stage or a group of runs.
        index: of its colour.
        points: of the mean, as `x,y x,y ...`.
        band: outline of one standard deviation to both sides; empty for one curve.
        is_dot: whether it has a single point.
        text: what it says in words.
    """

    name: str
    index: int
    points: str
    band: str
    is_dot: bool
    text: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """The lines of a metric; ticks are pairs of a place and its label.

    Its size and the edges of the area of its lines are in units of SVG.
    """

    WIDTH: ClassVar[int] = 360
    HEIGHT: ClassVar[int] = 200
    LEFT: ClassVar[int] = 50
    RIGHT: ClassVar[int] = 345
    TOP: ClassVar[int] = 8
    BOTTOM: ClassVar[int] = 176

    metric: str
    lines: list[Line]
    num_hidden: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def collect_curves(records: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Curves:
    """The curves of a run.

    Args:
        records: of `metrics.jsonl`.
        config: with `seed`, and `seeds` where the run has several. Stages `NAME-SEED` are curves of one line `NAME`.
    """
    seed = config.get("seed", 0)
    seeds = {str(number) for number in range(seed, seed + config.get("seeds", 1))}
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        for metric, value in record.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if metric not in _NOT_METRICS and is_number:
                points.setdefault(metric, {}).setdefault(record["stage"], []).append((record["step"], value))
    curves: Curves = {}
    for metric in sorted(points, key=lambda name: _TELLING.search(name) is None):
        for stage, pairs in points[metric].items():
            name, _, end = stage.rpartition("-")
            lines = curves.setdefault(metric, {})
            lines.setdefault(name if name and end in seeds else stage, []).append(tuple(zip(*pairs, strict=True)))
    return curves


def make_panels(curves: Curves) -> list[Panel]:
    """A panel for each metric; a name has one colour in all of them."""
    names = list(dict.fromkeys(name for lines in curves.values() for name in lines))
    num_lines = max(1, sum(len(lines) for lines in curves.values()))
    max_points = int(np.clip(_MAX_TOTAL_POINTS // num_lines, _MIN_POINTS, _MAX_POINTS))
    return [_make_panel(metric, lines, names, max_points) for metric, lines in curves.items()]


def average(curves: Sequence[Curve], max_points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of curves, with linear interpolation; at each step over the curves that reach it.

    Args:
        curves: at least one, each with at least one point.
        max_points: P at most.

    Returns:
        Steps [P], means [P] and standard deviations [P].
    """
    steps = np.unique(np.concatenate([np.asarray(curve[0], float) for curve in curves]))
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), max_points)).round().astype(int))
    steps = steps[chosen]
    values = np.array([np.interp(steps, *curve, left=np.nan, right=np.nan) for curve in curves])
    steps, values = steps[~np.isnan(values).all(axis=0)], values[:, ~np.isnan(values).all(axis=0)]
    return steps, np.nanmean(values, axis=0), np.nanstd(values, axis=0)


def _make_panel(metric: str, lines: Mapping[str, Sequence[Curve]], names: list[str], max_points: int) -> Panel:
    shown = dict(list(lines.items())[:MAX_LINES])
    averages = {name: average(curves, max_points) for name, curves in shown.items()}
    x_low, x_high = _find_range([steps for steps, _, _ in averages.values()])
    y_low, y_high = _find_range([mean + sign * spread for _, mean, spread in averages.values() for sign in (-1, 1)])

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        across = Panel.LEFT + (x - x_low) / (x_high - x_low) * (Panel.RIGHT - Panel.LEFT)
        down = Panel.BOTTOM - (y - y_low) / (y_high - y_low) * (Panel.BOTTOM - Panel.TOP)
        return np.stack([across, down], axis=1)

    drawn = []
    for name, (steps, mean, spread) in averages.items():
        band = ""
        if len(shown[name]) > 1:
            outline = np.concatenate([mean + spread, (mean - spread)[::-1]])
            band = _format_points(place(np.concatenate([steps, steps[::-1]]), outline))
        ends = dict.fromkeys(f"{mean[index]:.4g} at step {steps[index]:.0f}" for index in (0, -1))
        points = _format_points(place(steps, mean))
        drawn.append(Line(name, names.index(name), points, band, len(steps) == 1, f"{name}: {', '.join(ends)}"))
    x_ticks, y_ticks = _find_ticks(x_low, x_high), _find_ticks(y_low, y_high)
    return Panel(
        metric,
        drawn,
        len(lines) - len(shown),
        _label(place(x_ticks, np.full_like(x_ticks, y_low))[:, 0], x_ticks),
        _label(place(np.full_like(y_ticks, x_low), y_ticks)[:, 1], y_ticks),
    )


def _find_range(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Bounds that contain all values and differ."""
    low, high = (float(bound) for bound in (min(map(np.min, values)), max(map(np.max, values))))
    # float32 figures that differ by their rounding alone are drawn as one.
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-30):
        margin = 0.05 * abs(low) or 1.0
        return low - margin, high + margin
    return low, high


def _find_ticks(low: float, high: float) -> np.ndarray:
    ticks = np.asarray(MaxNLocator(4).tick_values(low, high))
    return ticks[(ticks >= low) & (ticks <= high)]


def _label(places: np.ndarray, ticks: np.ndarray) -> list[tuple[float, str]]:
    return [(round(float(place), 1), _format_tick(tick)) for place, tick in zip(places, ticks, strict=True)]


def _format_points(points: np.ndarray) -> str:
    """As `x,y x,y ...`, of points [P, 2]."""
    return " ".join(f"{left:.1f},{top:.1f}" for left, top in points)


def _format_tick(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    return f"{value / 1e3:.4g}k" if abs(value) >= 1e4 else f"{value:.4g}"
