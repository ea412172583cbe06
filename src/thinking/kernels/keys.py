"""How a question to an exact kernel becomes a key of digits."""

import jax.numpy as jnp

from thinking.kernels.contract import Context
from thinking.types import Array


def encode_digits(context: Context, target: Array, radices: tuple[int, ...]) -> tuple[Array, Array]:
    """The key as digits [B, C + 1] int32 (a missing item is the digit after the last state), and whether it is legal.

    Returns:
        The digits, and [B] bool, False where one lies outside its space.
    """
    limits = jnp.asarray(radices, jnp.int32)
    sizes = limits.at[:-2].add(-1)
    key = jnp.concatenate([context.items, target[:, None]], axis=1).astype(jnp.int32)
    real = jnp.concatenate([context.valid, jnp.ones_like(target, bool)[:, None]], axis=1)
    legal = (context.length >= 1) & jnp.all(~real | ((key >= 0) & (key < sizes[None])), axis=1)
    return jnp.where(real, key, limits[None] - 1), legal
