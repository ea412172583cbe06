"""Pictures of thoughts: exactness over lengths, what steps depend on, and what they are called by what they mean.

Axes: N symbols, K kinds of thoughts, S states, P lengths, R seeds.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thinking.colors import GREY, line_color
from thinking.environments.automata.automaton import Automaton
from thinking.experiment import plots

NUM_SHOWN = 24
"""Kinds of thoughts and states in a confusion matrix, those that are met most."""


def plot_accuracy_by_length(path: Path, exact: Mapping[str, np.ndarray], trained: int) -> Path:
    """Exactness over the lengths of words from 1 to P, for each kind of thought [R, P]: mean and standard deviation."""
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
    """How far each step moves with each symbol, [N, N] for each kind of thought."""
    figure, panels = plots.make_figure(len(dependence))
    for panel, (name, matrix) in zip(panels, dependence.items(), strict=True):
        ends = (0.5, matrix.shape[1] + 0.5, matrix.shape[0] + 0.5, 0.5)
        picture = panel.imshow(matrix, vmin=0, vmax=1, cmap="viridis", extent=ends)
        panel.set(title=name, xlabel="symbol that is changed", ylabel="step")
        panel.locator_params(integer=True)
        panel.grid(visible=False)
    figure.colorbar(picture, ax=panels, label="change of the hidden state")
    return plots.save_figure(figure, path)


def plot_confusion(path: Path, counts: np.ndarray, machine: Automaton) -> Path:
    """Which thoughts [K] go with which true states [S], as shares of each thought; the rows are put in order."""
    met = np.argsort(-counts.sum(axis=0), kind="stable")[:NUM_SHOWN]
    spoken = np.argsort(-counts.sum(axis=1), kind="stable")[:NUM_SHOWN]
    shares = counts[spoken] / np.maximum(counts[spoken].sum(axis=1, keepdims=True), 1)
    order = np.argsort(shares[:, met].argmax(axis=1), kind="stable")
    figure, (panel,) = plots.make_figure(1)
    figure.set_size_inches(6, 5)
    picture = panel.imshow(shares[order][:, met], vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_xticks(range(len(met)), [machine.state_names[state] for state in met], rotation=90, fontsize=6)
    panel.set_yticks(range(len(spoken)), [str(spoken[row]) for row in order], fontsize=6)
    panel.set(xlabel="true state after the same symbols", ylabel="thought")
    panel.grid(visible=False)
    figure.colorbar(picture, ax=panel, label="share of the thought")
    return plots.save_figure(figure, path)
