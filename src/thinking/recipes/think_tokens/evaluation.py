"""Evaluation of models that think: accuracy by length, and probes of their thoughts.

Axes: B words, N symbols, P lengths, R seeds.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking import progress
from thinking.colors import SECONDARY
from thinking.environments.automata.automaton import Automaton
from thinking.environments.automata.words import WordBatch, sample_words
from thinking.experiment import Run, metrics
from thinking.files import write_atomic
from thinking.generation.display import color_numbered_thoughts
from thinking.reasoning.thoughts import ThinkingModel, probing
from thinking.recipes.think_tokens import thought_plots, thoughts_page

NUM_SHOWN = 8
"""Words shown on the terminal."""


def sample_test_words(machine: Automaton, seed: int, length: int, max_length: int, num_words: int) -> WordBatch:
    """Words of one length, padded to `max_length`, so that one program serves all lengths."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**31), length)
    return sample_words(machine, key, jnp.full(num_words, length), max_length)


def compute_accuracy_by_length(
    model: ThinkingModel, params: Any, machine: Automaton, *, seed: int, max_length: int, num_words: int
) -> list[float]:
    """Accuracy on `num_words` words of each length from 1 to `max_length`."""
    accuracy_fn = jax.jit(functools.partial(probing.compute_accuracy, model))
    return [
        float(accuracy_fn(params, sample_test_words(machine, seed, length, max_length, num_words)))
        for length in range(1, max_length + 1)
    ]


def compute_metrics(model: ThinkingModel, params: Any, words: WordBatch, machine: Automaton) -> dict[str, float]:
    """How well thoughts encode the true states, with a control whose states are shuffled among words."""
    states = len(machine.state_names)

    @jax.jit
    def measure(params: Any) -> dict[str, jax.Array]:
        thinking = model.think(params, words.symbols, words.lengths)
        measured = {
            "mean_num_steps": jnp.mean(thinking.num_steps),
            "variance_explained_by_state": probing.compute_explained_variance(thinking, words.states, states),
            "variance_explained_by_shuffled_state": probing.compute_explained_variance(
                thinking, jnp.roll(words.states, 1, axis=0), states
            ),
        }
        if model.kind == "discrete":
            counts = probing.compute_confusion(thinking, words.states, states)
            measured["thought_purity"] = jnp.sum(jnp.max(counts, axis=1)) / jnp.sum(counts)
        return measured

    return {name: float(value) for name, value in measure(params).items()}


def make_row(
    kind: str, exact: np.ndarray, trained_length: int, seed_figures: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """A row of results: a kind of thoughts over R seeds.

    Args:
        kind: of thoughts.
        exact: [R, P] accuracy at each length from 1 to P.
        trained_length: symbols of the longest training words.
        seed_figures: `compute_metrics` of each seed.
    """
    row: dict[str, Any] = {"thoughts": kind, "num_seeds": len(exact)}
    longest = exact.shape[1]
    for length in sorted({min(trained_length, longest), longest}):
        at = exact[:, length - 1]
        row |= {f"exact_match_at_{length}": at.mean(), f"exact_match_at_{length}_std": at.std()}
    return row | {name: np.mean([measured[name] for measured in seed_figures]) for name in seed_figures[0]}


def write_page(run: Run, stages: Mapping[str, str], words: WordBatch, machine: Automaton) -> None:
    """Write `plots/thoughts.html`: thoughts over training, for each kind and its training stage.

    All `words` have one length.
    """
    samples = metrics.read(run.folder, metrics.SAMPLES_FILE)
    records = {kind: [record for record in samples if record["stage"] == stage] for kind, stage in stages.items()}
    if missing := [kind for kind, stage_records in records.items() if not stage_records]:
        progress.console().print(
            f"plots/thoughts.html is without {', '.join(missing)}: {metrics.SAMPLES_FILE} has no records of them"
        )
    records = {kind: stage_records for kind, stage_records in records.items() if stage_records}
    write_atomic(run.plots_folder / "thoughts.html", thoughts_page.render_page(records, words, machine).encode())


def plot_thoughts(
    run: Run, models: Mapping[str, tuple[ThinkingModel, Any]], words: WordBatch, machine: Automaton
) -> None:
    """Plot the dependence of steps on symbols and the confusion matrix of discrete thoughts; print some words.

    All `words` have one length; `models` are one per kind, each with its parameters.
    """
    replacements = jax.random.randint(jax.random.key(0), words.symbols.shape, 0, len(machine.symbol_names))
    dependence = {
        name: np.asarray(jax.jit(functools.partial(probing.compute_dependence, model))(params, words, replacements))
        for name, (model, params) in models.items()
    }
    thought_plots.plot_dependence(run.plots_folder / "dependence.png", dependence)
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
    for symbols, thoughts, answer_state, final_state, num_thoughts in zip(*shown, strict=True):
        word = " ".join(machine.symbol_names[symbol] for symbol in symbols)
        answer, is_correct = machine.state_names[answer_state], answer_state == final_state
        line = color_numbered_thoughts(word, thoughts[:num_thoughts], answer, separator="=", is_correct=is_correct)
        if not is_correct:
            line.append(f", not {machine.state_names[final_state]}", style=SECONDARY)
        progress.console().print(line, soft_wrap=True)
