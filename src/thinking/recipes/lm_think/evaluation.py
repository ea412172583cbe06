"""Evaluation of thoughts before held-out text, in bits per byte.

Axes: W windows, C tokens of a context, M of its continuation, N of the longest thought with its end, V text tokens.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.batching import apply_in_batches
from thinking.colors import line_color
from thinking.experiment import plots
from thinking.generation.sampling import fold_in_rows
from thinking.reasoning.thoughts.text_thoughts import Thought, ThoughtPolicy, ThoughtVocabulary
from thinking.types import Array, Params

BATCH_SIZE = 250
"""Windows per batch."""


class WindowScores(NamedTuple):
    """Log-probabilities of continuations, in nats, and thoughts.

    Attributes:
        own_thought: [W] log-probability given the model's own thought.
        empty_thought: [W] log-probability given an empty thought.
        other_thought: [W] log-probability given its thought for another window.
        thoughts: [W, N] int32, its own.
        length: [W] int32, tokens of these, the end included.
    """

    own_thought: np.ndarray
    empty_thought: np.ndarray
    other_thought: np.ndarray
    thoughts: np.ndarray
    length: np.ndarray


def held_out_windows(tokens: np.ndarray, count: int, length: int) -> np.ndarray:
    """[W, length] evenly spaced windows of a text: `count`, or fewer where two would be equal."""
    first = np.unique(np.linspace(0, len(tokens) - length, count).round().astype(int))
    return tokens[first[:, None] + np.arange(length)[None]]


def evaluate_windows(
    thought_policy: ThoughtPolicy,
    vocabulary: ThoughtVocabulary,
    params: Params,
    windows: np.ndarray,
    context_length: int,
    key: Array,
) -> WindowScores:
    """Score windows [W, C + M] with three kinds of thoughts; the key is folded in, not consumed.

    The empty thought is rare in training, so the model may do worse with it even if thoughts carry no information. The
    thought for another window is the control for that.
    """

    @jax.jit
    def evaluate_batch(batch: tuple[Array, Array]) -> WindowScores:
        window_indices, (contexts, continuations) = batch[0], jnp.split(batch[1], [context_length], axis=1)
        thought = thought_policy.think(params, fold_in_rows(key, window_indices), contexts)
        # Far away, as adjacent windows are of the same page.
        shift = -(-len(contexts) // 2)
        other_thoughts = jax.tree.map(lambda leaf: jnp.roll(leaf, shift, axis=0), thought)
        # In one batch, so that one program is compiled and not three.
        thoughts = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), thought, _make_empty_thoughts(thought, vocabulary), other_thoughts
        )
        log_probs = thought_policy.compute_log_probs(
            params, jnp.tile(contexts, (3, 1)), thoughts, jnp.tile(continuations, (3, 1))
        ).continuation
        return WindowScores(*jnp.split(log_probs, 3), thought.tokens, thought.length)

    return apply_in_batches(evaluate_batch, (np.arange(len(windows)), windows), min(BATCH_SIZE, len(windows)))


def _make_empty_thoughts(thought: Thought, vocabulary: ThoughtVocabulary) -> Thought:
    """Thoughts of an end token alone; of length 0 for models without thoughts."""
    tokens = jnp.zeros_like(thought.tokens).at[:, :1].set(vocabulary.end_token)
    return Thought(tokens, jnp.minimum(thought.length, 1), jnp.zeros_like(thought.num_sampled))


def compute_metrics(
    scores: WindowScores, continuation: np.ndarray, token_bytes: np.ndarray, baseline: WindowScores | None
) -> dict[str, float | None]:
    """Metrics of a model.

    Args:
        scores: of the model.
        continuation: [W, M] int32, true continuations.
        token_bytes: [V] int32, bytes of each text token.
        baseline: scores of the model without thoughts, if there is one.

    Returns:
        Bits per byte; the bits saved against the baseline, with the standard error over windows; bits per byte with
        thoughts of other windows; mean tokens of a thought; the fraction of windows in which it beats an empty one;
        and tokens computed per continuation token. None where a metric does not apply.
    """
    count, total = continuation.shape[1], token_bytes[continuation].sum()
    thinks = bool(scores.length.any())

    def bits(log_probs: np.ndarray) -> float:
        return float(-log_probs.sum(dtype=np.float64) / np.log(2) / total)

    metrics: dict[str, float | None] = {
        "bits_per_byte": bits(scores.own_thought),
        "bits_per_byte_saved": None,
        "bits_per_byte_saved_stderr": None,
    }
    if baseline is not None:
        metrics["bits_per_byte_saved"] = bits(baseline.own_thought) - metrics["bits_per_byte"]
        metrics["bits_per_byte_saved_stderr"] = float(
            (scores.own_thought - baseline.own_thought).std() * np.sqrt(len(continuation)) / np.log(2) / total
        )
    return metrics | {
        "bits_per_byte_with_shuffled_thoughts": bits(scores.other_thought) if thinks else None,
        "mean_thought_length": float(np.maximum(scores.length - 1, 0).mean()),
        "fraction_improved": float((scores.own_thought > scores.empty_thought).mean()) if thinks else None,
        "positions_per_token": float((scores.length + count).mean() / count),
    }


def plot_bits(path: Path, bits: Mapping[str, Sequence[float]]) -> Path:
    """Plot bits per byte of each kind, a dot for each seed."""
    figure, (panel,) = plots.make_figure(1)
    for index, seeds in enumerate(bits.values()):
        panel.plot([index] * len(seeds), seeds, "o", color=line_color(index))
    panel.set_xticks(range(len(bits)), list(bits))
    panel.set(ylabel="bits per byte, held out", xlim=(-0.5, len(bits) - 0.5))
    return plots.save_figure(figure, path)
