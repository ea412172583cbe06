"""What thoughts before text are worth on text that nobody learned from: in bits per byte, and what they look like.

Axes: W windows, C tokens of a context, M that follow, N of the longest thought with its end, V words.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.batching import in_batches
from thinking.colors import line_color
from thinking.experiment import plots
from thinking.reasoning.thoughts.before_text import Manner, Thought, Words
from thinking.types import Array, Params

TOGETHER = 250
"""Windows that are read at once."""


class Exam(NamedTuple):
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


def examine(thinker: Manner, words: Words, params: Params, windows: np.ndarray, context: int, key: Array) -> Exam:
    """Let a model think about windows [W, C + M]; keeps the key.

    A model that was always made to think has seldom met the empty thought, so that thoughts may seem to help it which
    only fill their place. What its thought about another window does instead tells whether a thought says anything.
    """

    @jax.jit
    def examine_part(part: tuple[Array, Array]) -> Exam:
        number, (contexts, following) = part[0], jnp.split(part[1], [context], axis=1)
        thought = thinker.think(params, jax.random.fold_in(key, number[0]), contexts)
        # Windows side by side are of the same page, and might share their thoughts.
        far = -(-len(contexts) // 2)
        other = jax.tree.map(lambda leaf: jnp.roll(leaf, far, axis=0), thought)
        # All at once, so that one reading is compiled and not three.
        each = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), thought, _emptied(thought, words), other)
        said = thinker.read(params, jnp.tile(contexts, (3, 1)), each, jnp.tile(following, (3, 1))).following
        return Exam(*jnp.split(said, 3), thought.tokens, thought.length)

    return in_batches(examine_part, (np.arange(len(windows)), windows), min(TOGETHER, len(windows)))


def _emptied(thought: Thought, words: Words) -> Thought:
    """Thoughts that end at once; where there are none, none."""
    marked = jnp.zeros_like(thought.tokens).at[:, :1].set(words.end)
    return Thought(marked, jnp.minimum(thought.length, 1), jnp.zeros_like(thought.chosen))


def figures(exam: Exam, following: np.ndarray, sizes: np.ndarray, plain: Exam | None) -> dict[str, float | None]:
    """What came of an exam.

    Args:
        exam: of a model.
        following: [W, M] int32, what truly follows.
        sizes: [V] int32, bytes of each token of the text.
        plain: of the model that does not think, if there is one.

    Returns:
        Bits per byte of what follows, how many fewer (with the standard error over windows) than without thinking; what
        they are behind thoughts about other windows; tokens of a thought, the share of windows in which it helped
        against an empty one, and tokens that are computed for each one that follows.
    """
    count, total = following.shape[1], sizes[following].sum()
    thinks = bool(exam.length.any())

    def bits(said: np.ndarray) -> float:
        return float(-said.sum(dtype=np.float64) / np.log(2) / total)

    found: dict[str, float | None] = {"bits_per_byte": bits(exam.own), "saved": None, "saved_error": None}
    if plain is not None:
        found["saved"] = bits(plain.own) - found["bits_per_byte"]
        found["saved_error"] = float((exam.own - plain.own).std() * np.sqrt(len(following)) / np.log(2) / total)
    return found | {
        "others_thought": bits(exam.other) if thinks else None,
        "thought_tokens": float(np.maximum(exam.length - 1, 0).mean()),
        "helped": float((exam.own > exam.empty).mean()) if thinks else None,
        "computed_per_token": float((exam.length + count).mean() / count),
    }


def draw_bits(path: Path, bits: Mapping[str, Sequence[float]]) -> Path:
    """Bits per byte of each kind, a dot for each seed."""
    figure, (panel,) = plots.figure(1)
    for index, seeds in enumerate(bits.values()):
        panel.plot([index] * len(seeds), seeds, "o", color=line_color(index))
    panel.set_xticks(range(len(bits)), list(bits))
    panel.set(ylabel="bits per byte, held out", xlim=(-0.5, len(bits) - 0.5))
    return plots.save(figure, path)
