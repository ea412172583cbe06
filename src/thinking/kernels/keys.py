"""Queries to exact kernels as keys of digits."""

import jax.numpy as jnp

from thinking.kernels.contract import Context
from thinking.types import Array


def encode_digits(context: Context, target: Array, radices: tuple[int, ...]) -> tuple[Array, Array]:
    """The key of each query, one digit a column; a missing item is the digit after the last state.

    Returns:
        [B, C + 1] int32 digits, and [B] bool, False where a digit lies outside its space.
    """
    limits = jnp.asarray(radices, jnp.int32)
    sizes = limits.at[:-2].add(-1)
    key = jnp.concatenate([context.items, target[:, None]], axis=1).astype(jnp.int32)
    is_valid = jnp.concatenate([context.valid, jnp.ones_like(target, bool)[:, None]], axis=1)
    is_legal = (context.length >= 1) & jnp.all(~is_valid | ((key >= 0) & (key < sizes[None])), axis=1)
    return jnp.where(is_valid, key, limits[None] - 1), is_legal
