"""What every kernel is: a triple of pure functions over PyTrees, as an optax transformation is a pair.

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
    """What a kernel's context items, values and targets are. They may all differ."""

    input: Space
    value: Space
    target: Space


class Context(NamedTuple):
    """The last things lived, the newest last.

    Attributes:
        items: [B, C] int32 or [B, C, D] float32. A short context is padded at the *front*, so that the newest item
            always stands at C - 1, in fitting as in inferring. What stands in the padding is never read.
        length: [B] int32, how many of the last items are real, 1 to C.
    """

    items: Array
    length: Array

    @property
    def valid(self) -> Array:
        """[B, C] bool, which items are real."""
        capacity = self.items.shape[self.length.ndim]
        place = jnp.arange(capacity).reshape((1,) * self.length.ndim + (capacity,))
        return place >= capacity - self.length[..., None]


class Transition(NamedTuple):
    """Rows to learn from: in `context`, pursuing `target`, the next value was `value`, and that was so good.

    Attributes:
        context: what was lived up to now, [B, C, ...].
        target: [B] int32 or [B, D] float32.
        value: [B] int32 or [B, D] float32.
        score: [B] float32 in [0, 1], higher is better.
        mask: [B] float32 >= 0, the weight of each row; a row of mask 0 changes nothing.
    """

    context: Context
    target: Array
    value: Array
    score: Array
    mask: Array


class Hypothesis(NamedTuple):
    """A kernel's answer: the value of its best slot, and that slot's score.

    Attributes:
        value: [B] int32 or [B, D] float32.
        score: [B] float32; in [0, 1], or -inf where an exact kernel never saw the question.
    """

    value: Array
    score: Array


class Kernel(NamedTuple):
    """One layer of thought.

    Attributes:
        init: `init(key) -> state`; consumes the key.
        fit: `fit(state, batch) -> (state, metrics)`. Learning is asymmetric: the best hypothesis wins.
        infer: `infer(state, context, target) -> Hypothesis`.
        spaces: what contexts, values and targets are.
        context_length: C, the items of a context.
    """

    init: Callable[[Array], State]
    fit: Callable[[State, Transition], tuple[State, Metrics]]
    infer: Callable[[State, Context, Array], Hypothesis]
    spaces: Spaces
    context_length: int


def check_context_length(context_length: int) -> None:
    """Raises ValueError unless there is room for the present."""
    if context_length < 1:
        raise ValueError(f"context_length {context_length}: the newest item is part of a context; give at least 1")


def check_query(kernel: str, spaces: Spaces, context_length: int, context: Context, target: Array) -> None:
    """Raises ValueError, before any tracing goes deep, if the shapes are not those the kernel was built for."""
    rows = target.shape[:1]
    wanted = {
        "context.items": (context.items, (*rows, context_length, *spaces.input.shape)),
        "context.length": (context.length, rows),
        "target": (target, (*rows, *spaces.target.shape)),
    }
    _check_shapes(kernel, wanted)


def check_batch(kernel: str, spaces: Spaces, context_length: int, batch: Transition) -> None:
    """The same for all of a batch."""
    check_query(kernel, spaces, context_length, batch.context, batch.target)
    rows = batch.target.shape[:1]
    value = batch.value, (*rows, *spaces.value.shape)
    _check_shapes(kernel, {"value": value, "score": (batch.score, rows), "mask": (batch.mask, rows)})


def _check_shapes(kernel: str, expected: dict[str, tuple[Array, tuple[int, ...]]]) -> None:
    for name, (given, shape) in expected.items():
        if given.shape != shape:
            raise ValueError(f"{kernel}: {name} has shape {given.shape}, but this kernel was built for {shape}")


def zero_padding_items(context: Context) -> Context:
    """The context with zeros where nothing real stands."""
    valid = context.valid.reshape(context.valid.shape + (1,) * (context.items.ndim - context.valid.ndim))
    return context._replace(items=jnp.where(valid, context.items, 0))


def zero_masked_rows(batch: Transition) -> Transition:
    """The batch with zeros in padding and in rows of mask 0, which may hold anything, NaN too."""

    def blank(leaf: Array) -> Array:
        counts = (batch.mask > 0).reshape(batch.mask.shape + (1,) * (leaf.ndim - batch.mask.ndim))
        return jnp.where(counts, leaf, jnp.zeros((), leaf.dtype))

    blanked = jax.tree.map(blank, batch)
    return blanked._replace(context=zero_padding_items(blanked.context))
