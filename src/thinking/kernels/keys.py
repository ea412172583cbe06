"""Queries to exact kernels as keys of digits."""

import jax.numpy as jnp

from thinking.kernels.contract import Context
from thinking.types import Array


def encode_digits(context: Context, target: Array, radices: tuple[int, ...]) -> tuple[Array, Array]:
    """[B, C + 1] int32, the key of each query as digits, and [B] bool, False where one lies outside its space.

    A missing item is the digit after the last state.
    """
    limits = jnp.asarray(radices, jnp.int32)
    sizes = limits.at[:-2].add(-1)
    key = jnp.concatenate([context.items, target[:, None]], axis=1).astype(jnp.int32)
    is_valid = jnp.concatenate([context.valid, jnp.ones_like(target, bool)[:, None]], axis=1)
    is_legal = (context.length >= 1) & jnp.all(~is_valid | ((key >= 0) & (key < sizes[None])), axis=1)
    return jnp.where(is_valid, key, limits[None] - 1), is_legal
