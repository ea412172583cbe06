"""Plots of thoughts: accuracy over lengths, dependence on symbols, and confusion with the true states.

Axes: N symbols, K kinds of thoughts, S states, P lengths, R seeds.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thinking.colors import GREY, line_color
from thinking.environments.automata.automaton import Automaton
from thinking.experiment import plots

NUM_SHOWN = 24
"""Maximum thoughts and states of a confusion matrix, the most frequent ones."""


def plot_accuracy_by_length(path: Path, exact: Mapping[str, np.ndarray], trained: int) -> Path:
    """Accuracy over word lengths 1 to P, of each kind of thoughts [R, P]: mean and standard deviation."""
    figure, (panel,) = plots.make_figure(1)
    figure.set_size_inches(6, 4)
    for index, (name, seeds) in enumerate(exact.items()):
        colour, mean, deviation = line_color(index), seeds.mean(axis=0), seeds.std(axis=0)
        lengths = range(1, seeds.shape[1] + 1)
        panel.plot(lengths, mean, color=colour, label=f"{name}, {len(seeds)} seeds" if len(seeds) > 1 else name)
        panel.fill_between(lengths, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
    panel.axvline(trained, color=GREY, linestyle="--", linewidth=1, label="longest in training")
    panel.set(xlabel="symbols in a word", ylabel="share of right answers", ylim=(-0.02, 1.02))
    panel.legend()
    return plots.save_figure(figure, path)


def plot_dependence(path: Path, dependence: Mapping[str, np.ndarray]) -> Path:
    """How much each step changes with each symbol, [N, N] for each kind of thoughts."""
    figure, panels = plots.make_figure(len(dependence))
    for panel, (name, matrix) in zip(panels, dependence.items(), strict=True):
        ends = (0.5, matrix.shape[1] + 0.5, matrix.shape[0] + 0.5, 0.5)
        image = panel.imshow(matrix, vmin=0, vmax=1, cmap="viridis", extent=ends)
        panel.set(title=name, xlabel="symbol that is changed", ylabel="step")
        panel.locator_params(integer=True)
        panel.grid(visible=False)
    figure.colorbar(image, ax=panels, label="change of the hidden state")
    return plots.save_figure(figure, path)


def plot_confusion(path: Path, counts: np.ndarray, machine: Automaton) -> Path:
    """How often each thought [K] coincides with each true state [S], as a fraction per thought, in sorted rows."""
    frequent_states = np.argsort(-counts.sum(axis=0), kind="stable")[:NUM_SHOWN]
    frequent_thoughts = np.argsort(-counts.sum(axis=1), kind="stable")[:NUM_SHOWN]
    shares = counts[frequent_thoughts] / np.maximum(counts[frequent_thoughts].sum(axis=1, keepdims=True), 1)
    order = np.argsort(shares[:, frequent_states].argmax(axis=1), kind="stable")
    figure, (panel,) = plots.make_figure(1)
    figure.set_size_inches(6, 5)
    image = panel.imshow(shares[order][:, frequent_states], vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_xticks(
        range(len(frequent_states)), [machine.state_names[state] for state in frequent_states], rotation=90, fontsize=6
    )
    panel.set_yticks(range(len(frequent_thoughts)), [str(frequent_thoughts[row]) for row in order], fontsize=6)
    panel.set(xlabel="true state after the same symbols", ylabel="thought")
    panel.grid(visible=False)
    figure.colorbar(image, ax=panel, label="share of the thought")
    return plots.save_figure(figure, path)
