"""Plots in one style: colours that the colour-blind tell apart, labelled axes, no window."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from thinking.colors import GREY, PALETTE, line_color
from thinking.experiment import metrics
from thinking.experiment.folder import Run

# The style is set for good: what a task adds to its figure later, a legend or a note, should follow it too.
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "figure.titlesize": 11,
        "grid.alpha": 0.3,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.7,
        "lines.linewidth": 1.4,
    }
)
_DPI = 150
_PANEL = (4.0, 2.8)  # inches
_COLUMNS = 3


def make_figure(num_panels: int = 1, title: str = "") -> tuple[Figure, list]:
    """Make a figure in the project's style.

    Args:
        num_panels: number of panels, at most three in a row.
        title: above all panels.

    Returns:
        The figure, and its axes, one a panel.
    """
    columns = min(num_panels, _COLUMNS)
    rows = math.ceil(num_panels / columns)
    made = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows))
    axes = list(made.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[num_panels:]:
        spare.remove()
    if title:
        made.suptitle(title)
    return made, axes[:num_panels]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, format="png")
    return path


def plot_mean_and_spread(
    path: Path,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x_label: str,
    y_label: str,
    threshold: float | None = None,
) -> Path:
    """Draw curves of several seeds each as their mean with one standard deviation about it.

    Args:
        path: where to.
        curves: for each name, x [S, P] and y [S, P]; x rises and may differ from seed to seed. The mean is drawn where
            all seeds are known, between their points on straight lines. The x axis is logarithmic.
        x_label: of the axis.
        y_label: of the axis.
        threshold: a line across.

    Returns:
        The path of the PNG.
    """
    made, (panel,) = make_figure(1)
    made.set_size_inches(6, 4)
    for index, (name, (x, y)) in enumerate(curves.items()):
        points = x[0] if len(x) == 1 else np.geomspace(max(x[:, 0].max(), 1), x[:, -1].min(), 200)
        lines = np.array([np.interp(points, *seed) for seed in zip(x, y, strict=True)])
        mean, deviation = lines.mean(axis=0), lines.std(axis=0)
        colour = line_color(index)
        label = name if len(x) == 1 else f"{name}, {len(x)} seeds"
        panel.plot(points, mean, color=colour, label=label, marker="o" if len(points) == 1 else None)
        panel.fill_between(points, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
    if threshold is not None:
        panel.axhline(threshold, color=GREY, linestyle="--", linewidth=1, label=f"{threshold:g}")
    panel.set(xscale="log", xlabel=x_label, ylabel=y_label)
    panel.legend()
    return save_figure(made, path)


def plot_learning_curves(
    run: Run, metric_names: Sequence[str], path: Path | None = None, title: str = "Learning curves"
) -> Path:
    """Draw `metrics.jsonl`: a panel a metric, a line a stage, over training steps.

    Args:
        run: the run.
        metric_names: the metrics to draw; a stage without one has no line in its panel.
        path: where to; `plots/learning_curves.png` without it.
        title: above all panels.

    Returns:
        The path of the PNG.
    """
    records = metrics.read(run.folder)
    stages = list(dict.fromkeys(record["stage"] for record in records))
    made, axes = make_figure(len(metric_names), title)
    for panel, name in zip(axes, metric_names, strict=True):
        for index, stage in enumerate(stages):
            points = [(r["step"], r[name]) for r in records if r["stage"] == stage and name in r]
            if points:
                # A lone point has no line to show.
                marker = "o" if len(points) == 1 else None
                panel.plot(*np.transpose(points), label=stage, color=line_color(index), marker=marker)
        panel.set_xlabel("training step")
        panel.set_ylabel(name.replace("_", " "))
        if len(stages) > 1 and panel.lines:
            panel.legend()
    return save_figure(made, path or run.plots_folder / "learning_curves.png")
