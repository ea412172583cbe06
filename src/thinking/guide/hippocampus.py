"""The hippocampus: a fixed-size ring of what was lived, one for each row of a batch.

Axes: B rows, M places of the ring, C items of a context.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Context
from thinking.types import Array, Space


class Memory(NamedTuple):
    """A ring of the last M items.

    Attributes:
        items: [B, M] int32 or [B, M, D] float32.
        count: [B] int32, how many were ever appended since the last reset.
    """

    items: Array
    count: Array


def init_memory(space: Space, rows: int, capacity: int) -> Memory:
    """Memories that hold nothing.

    Raises:
        ValueError: if the capacity is below 1.
    """
    if capacity < 1:
        raise ValueError(f"memory capacity {capacity}: a memory holds at least the present; give at least 1")
    return Memory(jnp.zeros((rows, capacity, *space.shape), space.dtype), jnp.zeros(rows, jnp.int32))


def append(memory: Memory, item: Array, where: Array | bool = True) -> Memory:
    """Remember item [B, ...] in the rows `where` [B] bool; the oldest goes when the ring is full."""
    rows, capacity = memory.items.shape[:2]
    where = jnp.broadcast_to(jnp.asarray(where), (rows,))
    place = jnp.where(where, memory.count % capacity, capacity)  # out of bounds: not written
    items = memory.items.at[jnp.arange(rows), place].set(item, mode="drop")
    return Memory(items, memory.count + where.astype(jnp.int32))


def recall(memory: Memory, length: int) -> Context:
    """The last `length` items, the newest last; shorter where less was lived or kept."""
    capacity = memory.items.shape[1]
    ages = jnp.arange(length)[::-1]
    place = (memory.count[:, None] - 1 - ages[None]) % capacity
    place = place.reshape(place.shape + (1,) * (memory.items.ndim - 2))
    known = jnp.minimum(memory.count, min(capacity, length))
    return Context(jnp.take_along_axis(memory.items, place, axis=1), known)


def reset(memory: Memory, where: Array | bool = True) -> Memory:
    """Forget everything in the rows `where` [B] bool."""
    return memory._replace(count=jnp.where(jnp.asarray(where), 0, memory.count))


def select(where: Array, yes: Array, no: Array) -> Array:
    """`jnp.where` for [B] bool and [B, ...] values."""
    return jnp.where(where.reshape(where.shape + (1,) * (yes.ndim - where.ndim)), yes, no)


def is_same(left: Array, right: Array) -> Array:
    """[B] bool, whether the things [B, ...] of each row are one and the same."""
    return jax.vmap(lambda a, b: jnp.all(a == b))(left, right)
