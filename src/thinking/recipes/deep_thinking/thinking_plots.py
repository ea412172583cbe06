"""Plots of accuracy over thinking steps, and a video of a maze being thought through."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from thinking.colors import GREY, PALETTE, line_color
from thinking.experiment import plots
from thinking.learning.deep_supervision import CellBatch
from thinking.recipes.deep_thinking.config import Config
from thinking.recipes.deep_thinking.evaluation import StepCurves, trace_probabilities
from thinking.recipes.deep_thinking.problem_families import Problem
from thinking.recipes.deep_thinking.training import build_network
from thinking.types import Params

_MAX_FRAMES = 45
_MAX_VIDEO_SIZE = 25


def plot_step_curves(path: Path, curves: Mapping[str, Mapping[int, list[StepCurves]]], depth: int) -> Path:
    """Plot the share of solved puzzles over steps of thought, a panel a network and a line a size.

    Args:
        path: of the PNG.
        curves: by network and size, of each seed.
        depth: steps of thought in training, a vertical line.
    """
    longest = max(len(curve.is_solved) for sizes in curves.values() for seeds in sizes.values() for curve in seeds)
    figure, panels = plots.make_figure(len(curves), "Solved puzzles over steps of thought, by size")
    for panel, (name, sizes) in zip(panels, curves.items(), strict=True):
        for index, (size, seeds) in enumerate(sizes.items()):
            # Answers that no longer change stay as they are.
            lines = np.array([np.pad(c.is_solved.mean(axis=1), (0, longest - len(c.is_solved)), "edge") for c in seeds])
            steps, mean, color = np.arange(1, longest + 1), 100 * lines.mean(axis=0), line_color(index)
            panel.plot(steps, mean, color=color, label=f"size {size}")
            panel.fill_between(
                steps, 100 * lines.min(axis=0), 100 * lines.max(axis=0), color=color, alpha=0.2, linewidth=0
            )
        panel.axvline(depth, color=GREY, linestyle="--", linewidth=1, label="steps in training")
        panel.set(
            xscale="log", ylim=(-3, 103), title=name.replace("_", " "), xlabel="steps of thought", ylabel="solved, %"
        )
    panels[0].legend(loc="upper left")
    return plots.save_figure(figure, path)


def write_videos(
    config: Config,
    folder: Path,
    problem: Problem,
    params: Params,
    curves: Mapping[int, list[StepCurves]],
    tests: Mapping[int, CellBatch],
) -> None:
    """Write a video of the first maze of each size up to 25 that the network thinks through."""
    network = build_network(config, problem, "recursive")
    for size, test in tests.items():
        if size <= _MAX_VIDEO_SIZE:
            write_maze_video(
                folder / f"maze_{size}.gif",
                np.asarray(test.inputs.neighbors[0, 0]),
                np.asarray(test.inputs.features[0].argmax(axis=0)),
                trace_probabilities(network, params, test, int(curves[size][0].halting_step[0])),
                f"A maze of {size} x {size} cells, trained on {config.puzzle.size} x {config.puzzle.size}",
            )


def write_maze_video(
    path: Path, neighbors: np.ndarray, ends: np.ndarray, probabilities: np.ndarray, title: str
) -> Path:
    """Write a GIF of a maze: at each cell, how likely the network thinks it is to lie on the path.

    Args:
        path: of the GIF.
        neighbors: [N, 4] the cells beside each cell without a wall between; -1 for none.
        ends: [2] start and end.
        probabilities: [T, N], before and after each step.
        title: of all frames.
    """
    figure, (panel,) = plots.make_figure(1, title)
    figure.set_size_inches(4.2, 4.6)
    shown = sorted({round(x) for x in np.linspace(0, len(probabilities) - 1, _MAX_FRAMES)})
    # The last frame stays for a while.
    shown += [shown[-1]] * 15

    def draw(number: int) -> None:
        panel.clear()
        draw_maze(panel, neighbors, ends, probabilities[number])
        panel.set_title(f"after {number} steps of thought", fontsize=9)

    return plots.save_animation(figure, draw, shown, path, frames_per_second=15)


def draw_maze(panel: Axes, neighbors: np.ndarray, ends: np.ndarray, probabilities: np.ndarray) -> None:
    """Draw walls, ends, and the probability of each cell [N] as its color."""
    side = math.isqrt(len(neighbors))
    colors = LinearSegmentedColormap.from_list("path", ["white", PALETTE[1]])
    panel.imshow(probabilities.reshape(side, side), cmap=colors, vmin=0, vmax=1, extent=(0, side, side, 0))
    width = max(0.5, 14 / side)
    for cell, (row, column) in enumerate(np.ndindex(side, side)):
        for there, line in (
            (cell - side, ((column, column + 1), (row, row))),
            (cell + side, ((column, column + 1), (row + 1, row + 1))),
            (cell - 1, ((column, column), (row, row + 1))),
            (cell + 1, ((column + 1, column + 1), (row, row + 1))),
        ):
            if there not in neighbors[cell]:
                panel.plot(*line, color="black", linewidth=width, solid_capstyle="round")
    for end, marker in zip(ends, "os", strict=True):
        panel.plot(end % side + 0.5, end // side + 0.5, marker, color=PALETTE[0], markersize=max(4, 90 / side))
    panel.set(xlim=(-0.2, side + 0.2), ylim=(side + 0.2, -0.2))
    panel.set_axis_off()
