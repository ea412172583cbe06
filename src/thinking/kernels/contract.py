"""The kernel contract: the learner of one layer as three pure functions over PyTrees.

Axes: B rows of a batch, C items of a context, D dimensions of a vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.types import Array, Metrics, Space, State


@dataclass(frozen=True)
class Spaces:
    """The spaces of a kernel's context items, values and targets."""

    input: Space
    value: Space
    target: Space


class Context(NamedTuple):
    """The most recent observations, the newest last.

    Attributes:
        items: [B, C] int32 or [B, C, D] float32. Padding is at the *front*, so the newest item is always at C - 1, in
            `fit` as in `infer`. Padding is never read.
        length: [B] int32, number of valid items, 1 to C.
    """

    items: Array
    length: Array

    @property
    def valid(self) -> Array:
        """[B, C] bool, which items are not padding."""
        capacity = self.items.shape[self.length.ndim]
        index = jnp.arange(capacity).reshape((1,) * self.length.ndim + (capacity,))
        return index >= capacity - self.length[..., None]


class Transition(NamedTuple):
    """Training examples: in `context`, pursuing `target`, the next value was `value`, with this `score`.

    Attributes:
        context: the observations so far, [B, C, ...].
        target: [B] int32 or [B, D] float32, as is `value`.
        value: what came next.
        score: [B] float32 in [0, 1], higher is better.
        mask: [B] float32 >= 0, sample weights; a row of weight 0 changes nothing.
    """

    context: Context
    target: Array
    value: Array
    score: Array
    mask: Array


class Hypothesis(NamedTuple):
    """A kernel's prediction: the value of its best slot, and that slot's score.

    Attributes:
        value: [B] int32 or [B, D] float32.
        score: [B] float32; in [0, 1], or -inf where an exact kernel has no entry.
    """

    value: Array
    score: Array


class Kernel(NamedTuple):
    """The learner of one layer.

    Attributes:
        init: `init(key) -> state`; consumes the key.
        fit: `fit(state, batch) -> (state, metrics)`. Learning is asymmetric: the best hypothesis wins.
        infer: `infer(state, context, target) -> Hypothesis`.
        spaces: of context items, values and targets.
        context_length: C.
    """

    init: Callable[[Array], State]
    fit: Callable[[State, Transition], tuple[State, Metrics]]
    infer: Callable[[State, Context, Array], Hypothesis]
    spaces: Spaces
    context_length: int


def check_context_length(context_length: int) -> None:
    """Raises ValueError if the context length is below 1."""
    if context_length < 1:
        raise ValueError(f"context_length {context_length}: the newest item is part of a context; give at least 1")


def check_query(kernel: str, spaces: Spaces, context_length: int, context: Context, target: Array) -> None:
    """Raises ValueError if the shapes do not match the kernel's spaces."""
    rows = target.shape[:1]
    expected = {
        "context.items": (context.items, (*rows, context_length, *spaces.input.shape)),
        "context.length": (context.length, rows),
        "target": (target, (*rows, *spaces.target.shape)),
    }
    _check_shapes(kernel, expected)


def check_batch(kernel: str, spaces: Spaces, context_length: int, batch: Transition) -> None:
    """The same for a whole batch."""
    check_query(kernel, spaces, context_length, batch.context, batch.target)
    rows = batch.target.shape[:1]
    value = batch.value, (*rows, *spaces.value.shape)
    _check_shapes(kernel, {"value": value, "score": (batch.score, rows), "mask": (batch.mask, rows)})


def _check_shapes(kernel: str, expected: dict[str, tuple[Array, tuple[int, ...]]]) -> None:
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise ValueError(f"{kernel}: {name} has shape {array.shape}, but this kernel was built for {shape}")


def zero_padding_items(context: Context) -> Context:
    """The context with zeros as padding."""
    valid = context.valid.reshape(context.valid.shape + (1,) * (context.items.ndim - context.valid.ndim))
    return context._replace(items=jnp.where(valid, context.items, 0))


def zero_masked_rows(batch: Transition) -> Transition:
    """The batch with zeros in padding and in rows of weight 0, which may hold anything, even NaN."""

    def zero(leaf: Array) -> Array:
        is_used = (batch.mask > 0).reshape(batch.mask.shape + (1,) * (leaf.ndim - batch.mask.ndim))
        return jnp.where(is_used, leaf, jnp.zeros((), leaf.dtype))

    cleaned = jax.tree.map(zero, batch)
    return cleaned._replace(context=zero_padding_items(cleaned.context))
