"""The hippocampus: short-term memory, a fixed-size ring buffer of recent observations for each row of a batch.

Axes: B rows, M slots of the ring buffer, C items of a context.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Context
from thinking.types import Array, Space


class Memory(NamedTuple):
    """A ring buffer of the last M items.

    Attributes:
        items: [B, M] int32 or [B, M, D] float32.
        count: [B] int32, items appended since the last reset.
    """

    items: Array
    count: Array


def init_memory(space: Space, rows: int, capacity: int) -> Memory:
    """An empty memory.

    Raises:
        ValueError: if the capacity is below 1.
    """
    if capacity < 1:
        raise ValueError(f"memory capacity {capacity}: a memory holds at least the present; give at least 1")
    return Memory(jnp.zeros((rows, capacity, *space.shape), space.dtype), jnp.zeros(rows, jnp.int32))


def append(memory: Memory, item: Array, where: Array | bool = True) -> Memory:
    """Append item [B, ...] in the rows `where` [B] bool; a full ring buffer overwrites its oldest item."""
    rows, capacity = memory.items.shape[:2]
    where = jnp.broadcast_to(jnp.asarray(where), (rows,))
    slot = jnp.where(where, memory.count % capacity, capacity)  # out of bounds: not written
    items = memory.items.at[jnp.arange(rows), slot].set(item, mode="drop")
    return Memory(items, memory.count + where.astype(jnp.int32))


def recall(memory: Memory, length: int) -> Context:
    """The last `length` items, the newest last; fewer where fewer are stored."""
    capacity = memory.items.shape[1]
    ages = jnp.arange(length)[::-1]
    slots = (memory.count[:, None] - 1 - ages[None]) % capacity
    slots = slots.reshape(slots.shape + (1,) * (memory.items.ndim - 2))
    num_items = jnp.minimum(memory.count, min(capacity, length))
    return Context(jnp.take_along_axis(memory.items, slots, axis=1), num_items)


def reset(memory: Memory, where: Array | bool = True) -> Memory:
    """Clear the rows `where` [B] bool."""
    return memory._replace(count=jnp.where(jnp.asarray(where), 0, memory.count))


def is_same(left: Array, right: Array) -> Array:
    """[B] bool, whether the arrays [B, ...] are equal in each row."""
    return jax.vmap(lambda a, b: jnp.all(a == b))(left, right)
