"""Pictures of thoughts: exactness over lengths, what steps depend on, and what they are called by what they mean.

Axes: N symbols, K kinds of thoughts, S states, P lengths, R seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.text import Text

from thinking.environments.automata.automaton import Automaton
from thinking.experiment import plots

SHOWN = 24
"""Kinds of thoughts and states in a confusion matrix, those that are met most."""
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta", "bright_yellow")


def draw_lengths(path: Path, exact: Mapping[str, np.ndarray], trained: int) -> Path:
    """Exactness over the lengths of words from 1 to P, for each kind of thought [R, P]: mean and standard deviation."""
    figure, (panel,) = plots.figure(1)
    figure.set_size_inches(6, 4)
    for index, (name, seeds) in enumerate(exact.items()):
        colour, mean, deviation = plots.PALETTE[index % len(plots.PALETTE)], seeds.mean(axis=0), seeds.std(axis=0)
        lengths = range(1, seeds.shape[1] + 1)
        panel.plot(lengths, mean, color=colour, label=f"{name}, {len(seeds)} seeds" if len(seeds) > 1 else name)
        panel.fill_between(lengths, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
    panel.axvline(trained, color="#999999", linestyle="--", linewidth=1, label="longest in training")
    panel.set(xlabel="symbols in a word", ylabel="share of right answers", ylim=(-0.02, 1.02))
    panel.legend()
    return plots.save(figure, path)


def draw_dependence(path: Path, moved: Mapping[str, np.ndarray]) -> Path:
    """How far each step moves with each symbol, [N, N] for each kind of thought."""
    figure, panels = plots.figure(len(moved))
    for panel, (name, matrix) in zip(panels, moved.items(), strict=True):
        ends = (0.5, matrix.shape[1] + 0.5, matrix.shape[0] + 0.5, 0.5)
        picture = panel.imshow(matrix, vmin=0, vmax=1, cmap="viridis", extent=ends)
        panel.set(title=name, xlabel="symbol that is changed", ylabel="step")
        panel.locator_params(integer=True)
        panel.grid(visible=False)
    figure.colorbar(picture, ax=panels, label="change of the hidden state")
    return plots.save(figure, path)


def draw_confusion(path: Path, counts: np.ndarray, machine: Automaton) -> Path:
    """Which thoughts [K] go with which true states [S], as shares of each thought; the rows are put in order."""
    met = np.argsort(-counts.sum(axis=0), kind="stable")[:SHOWN]
    spoken = np.argsort(-counts.sum(axis=1), kind="stable")[:SHOWN]
    shares = counts[spoken] / np.maximum(counts[spoken].sum(axis=1, keepdims=True), 1)
    order = np.argsort(shares[:, met].argmax(axis=1), kind="stable")
    figure, (panel,) = plots.figure(1)
    figure.set_size_inches(6, 5)
    picture = panel.imshow(shares[order][:, met], vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_xticks(range(len(met)), [machine.states[state] for state in met], rotation=90, fontsize=6)
    panel.set_yticks(range(len(spoken)), [str(spoken[row]) for row in order], fontsize=6)
    panel.set(xlabel="true state after the same symbols", ylabel="thought")
    panel.grid(visible=False)
    figure.colorbar(picture, ax=panel, label="share of the thought")
    return plots.save(figure, path)


def coloured(machine: Automaton, symbols: Sequence[int], thoughts: Sequence[int], answer: int, truth: int) -> Text:
    """A word, what was thought of it and the answer; a thought always has the same colour.

    Args:
        machine: that the word is for.
        symbols: of the word.
        thoughts: tokens between the word and the answer.
        answer: the state that was said.
        truth: the state that it should be.
    """
    text = Text(" ".join(machine.symbols[symbol] for symbol in symbols), style="bold")
    text.append(" | ", style="dim")
    for thought in thoughts:
        text.append(f"{thought} ", style=COLOURS[thought % len(COLOURS)])
    text.append("= ", style="dim")
    text.append(machine.states[answer], style="bold green" if answer == truth else "bold red")
    if answer != truth:
        text.append(f", not {machine.states[truth]}", style="dim")
    return text
