"""Exact memory for discrete states, addressed by index.

The key (target, context) is a mixed-radix number, which is the address: nothing is searched and no key is stored.
1,024 states with context length 1 take 8 MiB. Where that is too large, the hashed form is used.
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
    check_context_length,
    checked_kernel,
)
from thinking.kernels.hashed import hashed_table
from thinking.kernels.keys import encode_digits
from thinking.types import Array, Discrete, Metrics, Space


class TableState(NamedTuple):
    """The best value for every possible query.

    Attributes:
        value: [queries] int32 or [queries, D] float32.
        score: [queries] float32, -inf where nothing was stored.
    """

    value: Array
    score: Array


def table(*, input: Space, value: Space, target: Space, context_length: int = 1, capacity: int = 2**24) -> Kernel:
    """An exact kernel: each query keeps the value of the best score.

    A batch gives what its rows would have given one by one; of ties the earlier row stays.

    Args:
        input: space of the context items; discrete.
        value: space of the values.
        target: space of the targets; discrete.
        context_length: C; shorter contexts have keys of their own.
        capacity: maximum entries, 8 bytes each for discrete values. If there are more possible queries, the table is
            hashed (see `hashed_table`) with this many entries.

    Raises:
        ValueError: if input or target are not discrete, or a size is below 1.
    """
    check_context_length(context_length)
    if not isinstance(input, Discrete) or not isinstance(target, Discrete):
        raise ValueError(f"table: input {input} and target {target} must be Discrete; use kernels.linear for vectors")
    if capacity < 1:
        raise ValueError(f"table: capacity {capacity} holds nothing; give at least 1")
    spaces = Spaces(input, value, target)
    # The newest item is always present; each older one may be missing, which takes one more digit.
    radices = (*([input.size + 1] * (context_length - 1)), input.size, target.size)
    if math.prod(radices) > capacity:
        return hashed_table(spaces, context_length, radices, capacity)
    return _indexed_table(spaces, context_length, radices)


def _indexed_table(spaces: Spaces, context_length: int, radices: tuple[int, ...]) -> Kernel:
    num_keys = math.prod(radices)

    def address(context: Context, target: Array) -> Array:
        key = encode_digits(context, target, radices)
        index = jnp.zeros_like(target, jnp.int32)
        for column, radix in enumerate(radices):
            index = index * radix + key[:, column]
        return index

    def init(key: Array) -> TableState:
        del key  # an empty table is always the same
        value = jnp.zeros((num_keys, *spaces.value.shape), spaces.value.dtype)
        return TableState(value, jnp.full(num_keys, -jnp.inf))

    def fit(state: TableState, batch: Transition) -> tuple[TableState, Metrics]:
        # A row of weight 0 is out of bounds: dropped when written, filled when read.
        index = jnp.where(batch.mask > 0, address(batch.context, batch.target), num_keys)
        old_score = state.score.at[index].get(mode="fill", fill_value=jnp.inf)
        score = state.score.at[index].max(batch.score, mode="drop")
        new_score = score.at[index].get(mode="fill", fill_value=jnp.inf)
        # Of the rows that reach the new best score of their key, the earliest one writes its value.
        is_best = (batch.score == new_score) & (batch.score > old_score)
        order = jnp.arange(index.size, dtype=jnp.int32)
        candidates = jnp.where(is_best, index, num_keys)
        first = jnp.full(num_keys, index.size, jnp.int32).at[candidates].min(order, mode="drop")
        is_first = first.at[candidates].get(mode="fill", fill_value=-1) == order
        value = state.value.at[jnp.where(is_first, index, num_keys)].set(batch.value, mode="drop")
        return TableState(value, score), {"num_written": jnp.sum(is_first).astype(jnp.float32)}

    def infer(state: TableState, context: Context, target: Array) -> Hypothesis:
        index = address(context, target)
        return Hypothesis(state.value[index], state.score[index])

    return checked_kernel("table", init, fit, infer, spaces, context_length)
