"""Plots in one style: color-blind-safe colors, labelled axes, no window."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from thinking import progress
from thinking.colors import GREY, PALETTE, line_color, line_style
from thinking.experiment import metrics
from thinking.experiment.folder import Run
from thinking.files import open_atomic

# The style is set globally, so that later additions of a task follow it too.
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
# Names may have characters that the first font lacks: Chinese, Japanese, Korean. Without such a font they are boxes.
_CJK_FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Micro Hei", "PingFang SC", "SimHei")
_INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in _CJK_FONTS if name in _INSTALLED)]
warnings.filterwarnings("ignore", message="Glyph .* missing from font")
_DPI = 150
_PANEL = (4.0, 2.8)  # inches
_COLUMNS = 3
_MAX_CURVES = 6
"""With more, the legend is beside the panel."""


def make_figure(num_panels: int = 1, title: str = "") -> tuple[Figure, list]:
    """Make a figure in the project's style.

    Args:
        num_panels: number of panels, at most three in a row.
        title: of the figure.

    Returns:
        The figure and its axes, one per panel.
    """
    columns = min(num_panels, _COLUMNS)
    rows = math.ceil(num_panels / columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[num_panels:]:
        spare.remove()
    if title:
        figure.suptitle(title)
    return figure, axes[:num_panels]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, or warn; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warn_of_failure(path), open_atomic(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")
    return path


def save_animation(
    figure: Figure, draw: Callable[[int], None], frames: Sequence[int], path: Path, *, frames_per_second: int
) -> Path:
    """Write a GIF, or warn.

    Args:
        figure: is drawn into. All frames have the layout of the first, so that nothing moves about.
        draw: `draw(number)` draws a frame in place of the last.
        frames: numbers of the frames, at least one.
        path: of the GIF.
        frames_per_second: of the GIF.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warn_of_failure(path), open_atomic(path) as temporary:
        draw(frames[0])
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        animation = FuncAnimation(figure, lambda number: draw(number) or (), init_func=tuple, frames=frames)
        animation.save(temporary, writer=PillowWriter(fps=frames_per_second), dpi=80)
    return path


@contextlib.contextmanager
def warn_of_failure(path: Path) -> Iterator[None]:
    """Turn an error of drawing into a warning, as no picture is worth a run's results. A full disk still raises."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        progress.warn(f"{path} could not be drawn: {error}")


def escape(text: str) -> str:
    """A text that is drawn as it is: dollars begin no formula."""
    return text.replace("$", r"\$")


def plot_mean_and_spread(
    path: Path,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x_label: str,
    y_label: str,
    threshold: float | None = None,
) -> Path:
    """Plot curves over several seeds as mean with one standard deviation, on a logarithmic x axis.

    Args:
        path: of the PNG.
        curves: for each name, x [S, P] and y [S, P]; x ascends and may differ between seeds. The mean is drawn where
            all seeds have points, with linear interpolation.
        x_label: of the axis.
        y_label: of the axis.
        threshold: of a horizontal line.

    Returns:
        The path of the PNG.
    """
    figure, (panel,) = make_figure(1)
    figure.set_size_inches(6, 4)
    for index, (name, (x, y)) in enumerate(curves.items()):
        points = x[0] if len(x) == 1 else np.geomspace(max(x[:, 0].max(), 1), x[:, -1].min(), 200)
        lines = np.array([np.interp(points, *seed) for seed in zip(x, y, strict=True)])
        mean, deviation = lines.mean(axis=0), lines.std(axis=0)
        color = line_color(index)
        label = name if len(x) == 1 else f"{name}, {len(x)} seeds"
        marker = "o" if len(points) == 1 else None
        panel.plot(points, mean, color=color, linestyle=line_style(index), label=label, marker=marker)
        panel.fill_between(points, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
    if threshold is not None:
        panel.axhline(threshold, color=GREY, linestyle="--", linewidth=1, label=f"{threshold:g}")
    panel.set(xscale="log", xlabel=x_label, ylabel=y_label)
    if len(curves) > _MAX_CURVES:
        figure.set_figwidth(8)
        figure.legend(loc="outside right center")
    else:
        panel.legend()
    return save_figure(figure, path)


def plot_bars(
    path: Path,
    bars: Mapping[str, Sequence[float]],
    groups: Sequence[str],
    y_label: str,
    *,
    errors: Mapping[str, Sequence[float]] | None = None,
    title: str = "",
) -> Path:
    """Plot bars side by side in groups.

    Args:
        path: of the PNG.
        bars: for each name, the height of its bar in each group.
        groups: names of the groups, below the x axis.
        y_label: of the axis.
        errors: for each name, half the length of its error bars, such as a standard deviation.
        title: of the figure.

    Returns:
        The path of the PNG.
    """
    figure, (panel,) = make_figure(1, title)
    figure.set_size_inches(8, 4)
    width = 0.8 / len(bars)
    for index, (name, heights) in enumerate(bars.items()):
        places = np.arange(len(groups)) + width * (index + 0.5) - 0.4
        error = errors[name] if errors else None
        panel.bar(places, heights, width, yerr=error, capsize=2, label=name, color=line_color(index))
    panel.set_xticks(range(len(groups)), groups)
    panel.set_ylabel(y_label)
    panel.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=min(len(bars), 3))
    return save_figure(figure, path)


def plot_learning_curves(
    run: Run, metric_names: Sequence[str], path: Path | None = None, title: str = "Learning curves"
) -> Path:
    """Plot `metrics.jsonl`: one panel per metric, one line per stage, over training steps.

    Args:
        run: the run.
        metric_names: the metrics; a stage without one has no line in its panel, and one of no stage has no panel.
        path: of the PNG; `plots/learning_curves.png` by default.
        title: of the figure.

    Returns:
        The path of the PNG.
    """
    records = metrics.read(run.folder)
    stages = list(dict.fromkeys(record["stage"] for record in records))
    recorded = [name for name in metric_names if any(name in record for record in records)] or metric_names
    figure, axes = make_figure(len(recorded), title)
    for panel, name in zip(axes, recorded, strict=True):
        for index, stage in enumerate(stages):
            points = [(r["step"], r[name]) for r in records if r["stage"] == stage and name in r]
            if points:
                # A single point has no line.
                marker = "o" if len(points) == 1 else None
                style = {"color": line_color(index), "linestyle": line_style(index), "marker": marker}
                panel.plot(*np.transpose(points), label=stage, **style)
        panel.set_xlabel("training step")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_ylabel(name.replace("_", " "))
        if len(stages) > 1 and panel.lines:
            panel.legend()
    return save_figure(figure, path or run.plots_folder / "learning_curves.png")
