"""Examining models that think: how often they are right at each length, and what their thoughts are.

Axes: B words, N symbols, P lengths, R seeds.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking import progress
from thinking.colors import MARK
from thinking.environments.automata.automaton import Automaton
from thinking.environments.automata.words import WordBatch, sample_words
from thinking.experiment import Run, metrics
from thinking.files import write_whole
from thinking.generation.display import color_numbered_thoughts
from thinking.reasoning.thoughts import ThinkingModel, probing
from thinking.recipes.think_tokens import thought_plots, thoughts_page

NUM_SHOWN = 8
"""Words whose thoughts are shown on the terminal."""


def sample_test_words(machine: Automaton, seed: int, length: int, max_length: int, num_words: int) -> WordBatch:
    """Words of one length, in rows of the longest, so that one program does for all lengths."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31), length)
    return sample_words(machine, key, jnp.full(num_words, length), max_length)


def compute_accuracy_by_length(
    model: ThinkingModel, params: Any, machine: Automaton, *, seed: int, max_length: int, num_words: int
) -> list[float]:
    """The share of right answers to `num_words` words of each length from 1 to the longest."""
    judge = jax.jit(functools.partial(probing.compute_accuracy, model))
    return [
        float(judge(params, sample_test_words(machine, seed, length, max_length, num_words)))
        for length in range(1, max_length + 1)
    ]


def compute_metrics(model: ThinkingModel, params: Any, words: WordBatch, machine: Automaton) -> dict[str, float]:
    """How thoughts go with the true states, beside a control in which words have the states of others."""
    states = len(machine.state_names)

    @jax.jit
    def measure(params: Any) -> dict[str, jax.Array]:
        thinking = model.think(params, words.symbols, words.lengths)
        found = {
            "steps": jnp.mean(thinking.num_steps),
            "state_explains": probing.compute_explained_variance(thinking, words.states, states),
            "shuffled_explains": probing.compute_explained_variance(
                thinking, jnp.roll(words.states, 1, axis=0), states
            ),
        }
        if model.kind == "discrete":
            counts = probing.compute_confusion(thinking, words.states, states)
            found["thought_names_state"] = jnp.sum(jnp.max(counts, axis=1)) / jnp.sum(counts)
        return found

    return {name: float(value) for name, value in measure(params).items()}


def make_row(
    kind: str, exact: np.ndarray, trained_length: int, seed_figures: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """A line of results: a kind of thought over its R seeds.

    Args:
        kind: of thought.
        exact: [R, P] the share of right answers at each length from 1 to P.
        trained_length: symbols of the longest words in training.
        seed_figures: R times what `compute_metrics` tells.
    """
    row: dict[str, Any] = {"thoughts": kind, "seeds": len(exact)}
    longest = exact.shape[1]
    for length in sorted({min(trained_length, longest), longest}):
        at = exact[:, length - 1]
        row |= {f"exact_at_{length}": at.mean(), f"exact_at_{length}_std": at.std()}
    return row | {name: np.mean([figures[name] for figures in seed_figures]) for name in seed_figures[0]}


def write_page(run: Run, stages: Mapping[str, str], words: WordBatch, machine: Automaton) -> None:
    """Write `plots/thoughts.html`, of the thoughts about some words while models learned.

    Args:
        run: that recorded them.
        stages: of training, by kind of thought.
        words: that were recorded, all of one length.
        machine: that they are for.
    """
    told = metrics.read(run.folder, metrics.SAMPLES_FILE)
    records = {kind: [record for record in told if record["stage"] == stage] for kind, stage in stages.items()}
    if missing := [kind for kind, found in records.items() if not found]:
        progress.console().print(
            f"plots/thoughts.html is without {', '.join(missing)}: {metrics.SAMPLES_FILE} tells nothing"
        )
    records = {kind: found for kind, found in records.items() if found}
    write_whole(run.plots_folder / "thoughts.html", thoughts_page.render_page(records, words, machine).encode())


def plot_thoughts(
    run: Run, models: Mapping[str, tuple[ThinkingModel, Any]], words: WordBatch, machine: Automaton
) -> None:
    """Plot what steps depend on and what discrete thoughts mean, and show some on the terminal.

    Args:
        run: whose plots they are.
        models: of each kind of thought one, and its parameters.
        words: all of one length.
        machine: that they are for.
    """
    other = jax.random.randint(jax.random.key(0), words.symbols.shape, 0, len(machine.symbol_names))
    moved = {
        name: np.asarray(jax.jit(functools.partial(probing.compute_dependence, model))(params, words, other))
        for name, (model, params) in models.items()
    }
    thought_plots.plot_dependence(run.plots_folder / "dependence.png", moved)
    if "discrete" in models:
        _show_discrete(run, *models["discrete"], words, machine)


def _show_discrete(run: Run, model: ThinkingModel, params: Any, words: WordBatch, machine: Automaton) -> None:
    thinking = jax.jit(model.think)(params, words.symbols, words.lengths)
    counts = np.asarray(probing.compute_confusion(thinking, words.states, len(machine.state_names)))
    thought_plots.plot_confusion(run.plots_folder / "confusion.png", counts, machine)
    columns: Sequence[jax.Array] = (
        words.symbols,
        thinking.thoughts,
        thinking.answer_logits.argmax(axis=-1),
        words.final_states,
    )
    shown = [np.asarray(column)[:NUM_SHOWN].tolist() for column in (*columns, thinking.thought_mask.sum(axis=1))]
    for symbols, thoughts, said, true, made in zip(*shown, strict=True):
        word = " ".join(machine.symbol_names[symbol] for symbol in symbols)
        answer, right = machine.state_names[said], said == true
        line = color_numbered_thoughts(word, thoughts[:made], answer, separator="=", is_correct=right)
        if not right:
            line.append(f", not {machine.state_names[true]}", style=MARK)
        progress.console().print(line, soft_wrap=True)
