"""Exact memory for discrete states, addressed by index.

The key (target, context) is a mixed-radix number and that number is the address, so nothing is searched and no key
is stored: 1,024 states with context length 1 take 8 MiB. Where that is too large to hold, the hashed form serves.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from thinking.kernels.contract import (
    Context,
    Hypothesis,
    Kernel,
    Spaces,
    Transition,
    check_batch,
    check_context_length,
    check_query,
)
from thinking.kernels.hashed import hashed_table
from thinking.kernels.keys import encode_digits
from thinking.types import Array, Discrete, Metrics, Space


class TableState(NamedTuple):
    """The best answer to every possible question.

    Attributes:
        value: [questions] int32 or [questions, D] float32.
        score: [questions] float32, -inf where nothing was ever seen.
    """

    value: Array
    score: Array


def table(*, input: Space, value: Space, target: Space, context_length: int = 1, capacity: int = 2**24) -> Kernel:
    """An exact kernel: each question keeps the best-scored answer it was ever given.

    A batch gives what its rows would have given one by one; an equal score keeps the earlier row. Rows whose key lies
    outside the spaces are never stored, and never answer.

    Args:
        input: space of the context items; discrete.
        value: space of the answers.
        target: space of the targets; discrete.
        context_length: C; shorter contexts are keys of their own.
        capacity: questions that the table may hold, 8 bytes each for discrete values. If more are possible, the
            table is hashed (see `hashed`) and holds this many.

    Raises:
        ValueError: if input or target are not discrete, or a size is below 1.
    """
    check_context_length(context_length)
    if not isinstance(input, Discrete) or not isinstance(target, Discrete):
        raise ValueError(f"table: input {input} and target {target} must be Discrete; use kernels.linear for vectors")
    if capacity < 1:
        raise ValueError(f"table: capacity {capacity} holds nothing; give at least 1")
    spaces = Spaces(input, value, target)
    # The newest item is always there; each older one may be missing, which is one digit more.
    radices = (*([input.size + 1] * (context_length - 1)), input.size, target.size)
    if math.prod(radices) > capacity:
        return hashed_table(spaces, context_length, radices, capacity)
    return _indexed_table(spaces, context_length, radices)


def _indexed_table(spaces: Spaces, context_length: int, radices: tuple[int, ...]) -> Kernel:
    questions = math.prod(radices)

    def address(context: Context, target: Array) -> Array:
        check_query("table", spaces, context_length, context, target)
        key, legal = encode_digits(context, target, radices)
        index = jnp.zeros_like(target, jnp.int32)
        for column, radix in enumerate(radices):
            index = index * radix + key[:, column]
        return jnp.where(legal, index, questions)  # out of bounds: dropped when written, filled when read

    def init(key: Array) -> TableState:
        del key  # an empty memory is always the same
        value = jnp.zeros((questions, *spaces.value.shape), spaces.value.dtype)
        return TableState(value, jnp.full(questions, -jnp.inf))

    def fit(state: TableState, batch: Transition) -> tuple[TableState, Metrics]:
        check_batch("table", spaces, context_length, batch)
        index = jnp.where(batch.mask > 0, address(batch.context, batch.target), questions)
        before = state.score.at[index].get(mode="fill", fill_value=jnp.inf)
        score = state.score.at[index].max(batch.score, mode="drop")
        best = score.at[index].get(mode="fill", fill_value=jnp.inf)
        # Of the rows that reach the new best score of their key, the earliest one writes its value.
        wins = (batch.score == best) & (batch.score > before)
        order = jnp.arange(index.size, dtype=jnp.int32)
        contested = jnp.where(wins, index, questions)
        first = jnp.full(questions, index.size, jnp.int32).at[contested].min(order, mode="drop")
        earliest = first.at[contested].get(mode="fill", fill_value=-1) == order
        value = state.value.at[jnp.where(earliest, index, questions)].set(batch.value, mode="drop")
        return TableState(value, score), {"written": jnp.sum(earliest).astype(jnp.float32)}

    def infer(state: TableState, context: Context, target: Array) -> Hypothesis:
        index = address(context, target)
        value = state.value.at[index].get(mode="fill", fill_value=0)
        return Hypothesis(value, state.score.at[index].get(mode="fill", fill_value=-jnp.inf))

    return Kernel(init, fit, infer, spaces, context_length)
