"""Answers within completions.

Axes: B rows, N new tokens.
"""

import jax.numpy as jnp

from thinking.generation.completions import Completions
from thinking.text.vocabulary import ANSWER, END, is_in_thought
from thinking.types import Array


def find_answers(completions: Completions) -> tuple[Array, Array, Array]:
    """The span of each answer: between the last answer token outside thoughts and the first end token after it.

    Returns:
        The index of its first token [B] int32, its number of tokens [B] int32, and whether there is one [B] bool, with
        at least one token and an end token; otherwise the first two are meaningless.
    """
    tokens, index, is_generated = tokens_and_mask(completions)
    width = tokens.shape[1]
    start = jnp.max(jnp.where((tokens == ANSWER) & is_generated & ~is_in_thought(tokens), index, -1), axis=1) + 1
    end = jnp.min(jnp.where((tokens == END) & is_generated & (index >= start[:, None]), index, width), axis=1)
    return start, end - start, (start > 0) & (end < width) & (end > start)


def tokens_and_mask(completions: Completions) -> tuple[Array, Array, Array]:
    """Tokens [B, N], their indices [1, N], and which were generated [B, N]."""
    index = jnp.arange(completions.tokens.shape[1])[None]
    return completions.tokens, index, index < completions.length[:, None]
