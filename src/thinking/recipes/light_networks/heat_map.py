"""A heat map of accuracies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from thinking.experiment import plots

_MIN_WIDTH = 3.2
"""Inches in which title and label fit."""


def plot_heat_map(
    path: Path, accuracies: Mapping[tuple[str, str], Sequence[float]], factors: Sequence[int], title: str
) -> Path:
    """Plot accuracies: a row a network, a column a problem and size.

    Args:
        path: of the PNG.
        accuracies: by network and problem, the share of right labels at each factor.
        factors: of the trained size.
        title: of the figure.
    """
    networks = list(dict.fromkeys(network for network, _ in accuracies))
    problems = list(dict.fromkeys(problem for _, problem in accuracies))
    values = 100 * np.array([[x for problem in problems for x in accuracies[network, problem]] for network in networks])
    figure, (panel,) = plots.make_figure(1, title)
    width = max(_MIN_WIDTH, 1.8 + 0.5 * values.shape[1])
    figure.set_size_inches(width, 1.8 + 0.45 * len(networks))
    panel.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        panel.text(
            column, row, f"{value:.0f}", ha="center", va="center", color="white" if value < 60 else "black", fontsize=8
        )
    panel.set_yticks(range(len(networks)), networks)
    panel.set_xticks(range(values.shape[1]), [f"{factor}x" for _ in problems for factor in factors], fontsize=7)
    for index, problem in enumerate(problems):
        middle = (index + 0.5) * len(factors) - 0.5
        panel.text(middle, -0.75, problem.replace("_", "\n"), ha="center", va="bottom", fontsize=8)
        if index:
            panel.axvline(index * len(factors) - 0.5, color="white", linewidth=3)
    # Of the figure, not of the panel, beside which long names of networks may stand.
    figure.supxlabel("size, as a multiple of the trained one\nnumbers: accuracy in percent", fontsize=8)
    panel.grid(False)
    return plots.save_figure(figure, path)
