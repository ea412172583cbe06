"""Tagging: each memory item gets a tag, a discrete feature of its history, which the layers read.

A tag is part of the item: a state of `Discrete(n)` with one of K tags is one of n * K states, a vector of `Box(d)`
gains K features. So all kernels read tags without special code. The same function computes tags in fitting (over a
trajectory, which begins when its goal is set) and in acting (over the memory, which is reset when the goal changes). In
`think` a layer's memory begins anew in each segment, so tags are meant for guides that react.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hippocampus import is_same
from thinking.kernels.contract import Context, Hypothesis, Transition
from thinking.types import Array, Box, Discrete, Space


class Tagging(NamedTuple):
    """A tagging function.

    Attributes:
        count: K, number of tags.
        tag: `tag(items [T, ...], valid [T]) -> [T] int32`, the tag of each item, from the items before it.
    """

    count: int
    tag: Callable[[Array, Array], Array]


def visits(count: int = 8, *, cyclic: bool = True) -> Tagging:
    """How often the same state was visited before, since the goal was set.

    Args:
        count: K.
        cyclic: whether the count is taken modulo K (the guide then cycles through its alternatives), or clipped at K -
            1, which then means "or more".

    Raises:
        ValueError: if K is below 1.
    """
    if count < 1:
        raise ValueError(f"visits({count}): there is at least one tag")

    def tag(items: Array, valid: Array) -> Array:
        flat = items.reshape(items.shape[0], -1)
        equal = jnp.all(flat[:, None] == flat[None], axis=-1)
        before = jnp.tril(jnp.ones(equal.shape, bool), -1) & valid[None]
        num_visits = jnp.sum(equal & before, axis=1)
        return (num_visits % count if cyclic else jnp.minimum(num_visits, count - 1)).astype(jnp.int32)

    return Tagging(count, tag)


def random_tags(probabilities: Array, key: Array) -> Tagging:
    """Random tags with `probabilities` [K]: the control for what tags contribute. Consumes the key.

    The draw is a function of the history and the key, so fitting and acting stay pure.
    """

    def tag(items: Array, valid: Array) -> Array:
        bits = jax.lax.bitcast_convert_type(items.reshape(items.shape[0], -1), jnp.uint32)
        mixed = jnp.sum(bits, axis=1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1) + jnp.uint32(1)
        history = jnp.cumsum(valid.astype(jnp.uint32) * (mixed ^ (mixed >> 15)), dtype=jnp.uint32)
        draws = jax.vmap(lambda mark: jax.random.categorical(jax.random.fold_in(key, mark), jnp.log(probabilities)))
        return draws(history).astype(jnp.int32)

    return Tagging(probabilities.shape[0], tag)


def tagged_space(space: Space, tagging: Tagging | None) -> Space:
    """The space of tagged items."""
    if tagging is None:
        return space
    return Discrete(space.size * tagging.count) if isinstance(space, Discrete) else Box(space.dims + tagging.count)


def untagged_space(space: Space, tagging: Tagging | None) -> Space:
    """The space of the items before tagging: the inverse of `tagged_space`.

    Raises:
        ValueError: if the space is not one of tagged items.
    """
    if tagging is None:
        return space
    if isinstance(space, Discrete) and space.size % tagging.count:
        raise ValueError(f"{space} cannot be states with {tagging.count} tags each; build it with tagged_space")
    return Discrete(space.size // tagging.count) if isinstance(space, Discrete) else Box(space.dims - tagging.count)


def attach_tags(tagging: Tagging, items: Array, tags: Array, space: Space) -> Array:
    """Items [..., (D)] of `space` with their tags [...], as items of `tagged_space`."""
    if isinstance(space, Discrete):
        return items + space.size * tags
    return jnp.concatenate([items, jax.nn.one_hot(tags, tagging.count)], axis=-1)


def tag_context(tagging: Tagging | None, context: Context, space: Space) -> Context:
    """A context with each item tagged, from the items of the context alone."""
    if tagging is None:
        return context
    tags = jax.vmap(tagging.tag)(context.items, context.valid)
    return context._replace(items=attach_tags(tagging, context.items, tags, space))


def mask_repeats(
    infer: Callable[[Context, Array], Hypothesis], batch: Transition, tagging: Tagging, space: Space
) -> Transition:
    """Mask the examples whose value the layer already infers for an earlier visit of the same state.

    A second visit shows that the first choice did not lead to the goal. So an example with tag k is used only if the
    layer, as it is before this batch, does not infer its value for the same query with a lower tag. Otherwise the best
    value would be learned under every tag, and a guide that revisits a state would repeat itself forever. A higher tag
    must mean a later visit; `space` is that of the items before tagging.
    """
    newest = batch.context.items[:, -1]
    if isinstance(space, Discrete):
        state, tag = newest % space.size, newest // space.size
    else:
        state, tag = newest[:, : space.dims], jnp.argmax(newest[:, space.dims :], axis=-1)
    mask = batch.mask
    for lower in range(tagging.count - 1):
        earlier_items = attach_tags(tagging, state, jnp.full_like(tag, lower), space)
        hypothesis = infer(batch.context._replace(items=batch.context.items.at[:, -1].set(earlier_items)), batch.target)
        is_repeat = (lower < tag) & (hypothesis.score > -jnp.inf) & is_same(hypothesis.value, batch.value)
        mask = jnp.where(is_repeat, 0, mask)
    return batch._replace(mask=mask)
