"""The kernel contract: the learner of one layer as three pure functions over PyTrees.

Axes: B rows of a batch, C items of a context, D dimensions of a vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.types import Array, Discrete, Metrics, Space, State

InitFn = Callable[[Array], State]
FitFn = Callable[[State, "Transition"], tuple[State, Metrics]]
InferFn = Callable[[State, "Context", Array], "Hypothesis"]


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
        mask: [B] float32 >= 0, sample weights; a row of weight 0 changes nothing, and neither does an illegal one (see
            `checked_kernel`).
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
        score: [B] float32; in [0, 1], or -inf where an exact kernel has no entry or the query is illegal.
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

    init: InitFn
    fit: FitFn
    infer: InferFn
    spaces: Spaces
    context_length: int


def checked_kernel(name: str, init: InitFn, fit: FitFn, infer: InferFn, spaces: Spaces, context_length: int) -> Kernel:
    """A kernel whose `fit` and `infer` never read what lies outside its spaces.

    A query is illegal if its length is not 1 to C, or an item of it or its target is not in its space: an index out of
    range, or a vector that is not finite. A row of a batch is illegal too if its value is not in its space, or its
    score or weight is not finite. In `fit` an illegal row has weight 0. In `infer` it has value 0 and score -inf.

    Args:
        name: of the kernel, for errors.
        init, fit, infer: of the kernel; the latter two get zeros in padding, in illegal rows and in rows of weight 0.
        spaces: of context items, values and targets.
        context_length: C.

    Raises:
        ValueError: if the context length is below 1; in `fit` and `infer`, if shapes do not match the spaces.
    """
    check_context_length(context_length)

    def checked_fit(state: State, batch: Transition) -> tuple[State, Metrics]:
        check_batch(name, spaces, context_length, batch)
        is_legal = _is_legal_row(spaces, batch)
        return fit(state, zero_masked_rows(batch._replace(mask=jnp.where(is_legal, batch.mask, 0))))

    def checked_infer(state: State, context: Context, target: Array) -> Hypothesis:
        check_query(name, spaces, context_length, context, target)
        is_legal = _is_legal_query(spaces, context, target)
        context, target = _zero_rows((context, target), ~is_legal)
        # A query has at least one item.
        context = zero_padding_items(context._replace(length=jnp.where(is_legal, context.length, 1)))
        hypothesis = infer(state, context, target)
        rows = target.shape[:1]
        _check_shapes(
            name,
            {
                "value of infer": (hypothesis.value, (*rows, *spaces.value.shape)),
                "score of infer": (hypothesis.score, rows),
            },
        )
        return Hypothesis(_zero_rows(hypothesis.value, ~is_legal), jnp.where(is_legal, hypothesis.score, -jnp.inf))

    return Kernel(init, checked_fit, checked_infer, spaces, context_length)


def _is_member(space: Space, x: Array) -> Array:
    """[...] bool, whether elements [..., (D)] are in a space."""
    if isinstance(space, Discrete):
        return (x >= 0) & (x < space.size)
    return jnp.all(jnp.isfinite(x), axis=-1)


def _is_legal_query(spaces: Spaces, context: Context, target: Array) -> Array:
    """[B] bool, whether queries are in their spaces; padding may hold anything."""
    length_fits = (context.length >= 1) & (context.length <= context.items.shape[1])
    items_fit = jnp.all(_is_member(spaces.input, context.items) | ~context.valid, axis=1)
    return length_fits & items_fit & _is_member(spaces.target, target)


def _is_legal_row(spaces: Spaces, batch: Transition) -> Array:
    """[B] bool, whether rows of a batch are in their spaces."""
    is_finite = jnp.isfinite(batch.score) & jnp.isfinite(batch.mask)
    return _is_legal_query(spaces, batch.context, batch.target) & _is_member(spaces.value, batch.value) & is_finite


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
    cleaned = _zero_rows(batch, ~(batch.mask > 0))
    return cleaned._replace(context=zero_padding_items(cleaned.context))


def _zero_rows(tree: Any, where: Array) -> Any:
    """The tree of leaves [B, ...] with zeros in the rows `where` [B]."""

    def zero(leaf: Array) -> Array:
        return jnp.where(where.reshape(where.shape + (1,) * (leaf.ndim - 1)), jnp.zeros((), leaf.dtype), leaf)

    return jax.tree.map(zero, tree)
