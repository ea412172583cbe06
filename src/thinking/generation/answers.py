"""Answers within what was written.

Axes: B rows, N new tokens.
"""

import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.text.vocabulary import ANSWER, END, is_in_thought
from thinking.types import Array


def find_answers(completions: Completions) -> tuple[Array, Array, Array]:
    """Where each answer stands: what is between the last answer mark outside thoughts and the first end behind it.

    Args:
        completions: what was written.

    Returns:
        The place of its first token [B] int32, how many tokens it has [B] int32, and whether there is one [B] bool,
        which has at least one token and an end; else the others mean nothing.
    """
    tokens, place, real = tokens_and_mask(completions)
    width = tokens.shape[1]
    start = jnp.max(jnp.where((tokens == ANSWER) & real & ~is_in_thought(tokens), place, -1), axis=1) + 1
    end = jnp.min(jnp.where((tokens == END) & real & (place >= start[:, None]), place, width), axis=1)
    return start, end - start, (start > 0) & (end < width) & (end > start)


def tokens_and_mask(completions: Completions) -> tuple[Array, Array, Array]:
    """Tokens [B, N], their places [1, N], and which were written [B, N]."""
    place = jnp.arange(completions.tokens.shape[1])[None]
    return completions.tokens, place, place < completions.length[:, None]
