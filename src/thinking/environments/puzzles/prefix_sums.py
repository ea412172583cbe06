"""Prefix sums: at each bit, whether the number of ones up to it is odd (Schwarzschild et al. 2021).

The answer at a bit depends on all bits before it, and each bit sees its two neighbors alone.
"""

import jax
import jax.numpy as jnp

from thinking.environments.puzzles.puzzle import Puzzle, PuzzleFamily
from thinking.types import Array


def prefix_sums() -> PuzzleFamily:
    """Prefix sums modulo 2 of random bits; the size is their number. Relations: the bit before, the bit after."""
    return PuzzleFamily("prefix_sums", _sample, num_features=2, num_relations=2, num_classes=2)


def _sample(key: Array, size: int) -> Puzzle:
    bits = jax.random.bernoulli(key, shape=(size,)).astype(jnp.int32)
    index = jnp.arange(size, dtype=jnp.int32)
    after = jnp.where(index + 1 < size, index + 1, -1)
    neighbors = jnp.stack([index - 1, after])[..., None]
    return Puzzle(jax.nn.one_hot(bits, 2), neighbors, jnp.cumsum(bits) % 2)
