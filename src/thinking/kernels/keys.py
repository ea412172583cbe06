"""Queries to exact kernels as keys of digits."""

import jax.numpy as jnp

from thinking.kernels.contract import Context
from thinking.types import Array


def encode_digits(context: Context, target: Array, radices: tuple[int, ...]) -> Array:
    """[B, C + 1] int32, the key of each legal query as digits.

    A missing item is the digit after the last state.
    """
    key = jnp.concatenate([context.items, target[:, None]], axis=1).astype(jnp.int32)
    is_valid = jnp.concatenate([context.valid, jnp.ones_like(target, bool)[:, None]], axis=1)
    return jnp.where(is_valid, key, jnp.asarray(radices, jnp.int32)[None] - 1)
