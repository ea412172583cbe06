"""What thoughts before text are worth on text that nobody learned from: in bits per byte, and what they look like.

Axes: W windows, C tokens of a context, M that follow, N of the longest thought with its end, V words.
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
from thinking.reasoning.thoughts.text_thoughts import Thought, ThoughtPolicy, ThoughtVocabulary
from thinking.types import Array, Params

BATCH_SIZE = 250
"""Windows that are read at once."""


class WindowScores(NamedTuple):
    """What a model said of windows; log-probabilities of what follows, in nats.

    Attributes:
        own: [W], behind a thought of its own.
        empty: [W], behind a thought that ends at once.
        other: [W], behind its thought about another window.
        thoughts: [W, N] int32, its own.
        length: [W] int32, tokens of these, their end included.
    """

    own: np.ndarray
    empty: np.ndarray
    other: np.ndarray
    thoughts: np.ndarray
    length: np.ndarray


def held_out_windows(tokens: np.ndarray, count: int, length: int) -> np.ndarray:
    """[W, length] parts of a text [N], at even distances; as many as asked, or fewer where two would be the same."""
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
    """Let a model think about windows [W, C + M]; keeps the key.

    A model that was always made to think has seldom met the empty thought, so that thoughts may seem to help it which
    only fill their place. What its thought about another window does instead tells whether a thought says anything.
    """

    @jax.jit
    def evaluate_batch(part: tuple[Array, Array]) -> WindowScores:
        number, (contexts, following) = part[0], jnp.split(part[1], [context_length], axis=1)
        thought = thought_policy.think(params, jax.random.fold_in(key, number[0]), contexts)
        # Windows side by side are of the same page, and might share their thoughts.
        far = -(-len(contexts) // 2)
        other = jax.tree.map(lambda leaf: jnp.roll(leaf, far, axis=0), thought)
        # All at once, so that one reading is compiled and not three.
        each = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), thought, _make_empty_thoughts(thought, vocabulary), other
        )
        said = thought_policy.compute_log_probs(
            params, jnp.tile(contexts, (3, 1)), each, jnp.tile(following, (3, 1))
        ).continuation
        return WindowScores(*jnp.split(said, 3), thought.tokens, thought.length)

    return apply_in_batches(evaluate_batch, (np.arange(len(windows)), windows), min(BATCH_SIZE, len(windows)))


def _make_empty_thoughts(thought: Thought, vocabulary: ThoughtVocabulary) -> Thought:
    """Thoughts that end at once; where there are none, none."""
    marked = jnp.zeros_like(thought.tokens).at[:, :1].set(vocabulary.end_token)
    return Thought(marked, jnp.minimum(thought.length, 1), jnp.zeros_like(thought.num_sampled))


def compute_metrics(
    scores: WindowScores, continuation: np.ndarray, token_bytes: np.ndarray, baseline: WindowScores | None
) -> dict[str, float | None]:
    """What came of an exam.

    Args:
        scores: of a model.
        continuation: [W, M] int32, what truly follows.
        token_bytes: [V] int32, bytes of each token of the text.
        baseline: of the model that does not think, if there is one.

    Returns:
        Bits per byte of what follows, how many fewer (with the standard error over windows) than without thinking; what
        they are behind thoughts about other windows; tokens of a thought, the share of windows in which it helped
        against an empty one, and tokens that are computed for each one that follows.
    """
    count, total = continuation.shape[1], token_bytes[continuation].sum()
    thinks = bool(scores.length.any())

    def bits(said: np.ndarray) -> float:
        return float(-said.sum(dtype=np.float64) / np.log(2) / total)

    found: dict[str, float | None] = {"bits_per_byte": bits(scores.own), "saved": None, "saved_error": None}
    if baseline is not None:
        found["saved"] = bits(baseline.own) - found["bits_per_byte"]
        found["saved_error"] = float((scores.own - baseline.own).std() * np.sqrt(len(continuation)) / np.log(2) / total)
    return found | {
        "others_thought": bits(scores.other) if thinks else None,
        "thought_tokens": float(np.maximum(scores.length - 1, 0).mean()),
        "helped": float((scores.own > scores.empty).mean()) if thinks else None,
        "computed_per_token": float((scores.length + count).mean() / count),
    }


def plot_bits(path: Path, bits: Mapping[str, Sequence[float]]) -> Path:
    """Bits per byte of each kind, a dot for each seed."""
    figure, (panel,) = plots.make_figure(1)
    for index, seeds in enumerate(bits.values()):
        panel.plot([index] * len(seeds), seeds, "o", color=line_color(index))
    panel.set_xticks(range(len(bits)), list(bits))
    panel.set(ylabel="bits per byte, held out", xlim=(-0.5, len(bits) - 0.5))
    return plots.save_figure(figure, path)
