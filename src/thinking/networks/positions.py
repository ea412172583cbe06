"""Position encodings as plug-ins: none, sinusoidal, rotary, location.

Axes: B rows, C tokens, D dimensions of a token, H heads, K coordinates of a place.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Position(NamedTuple):
    """What an encoding does to tokens, and what to queries and keys.

    Attributes:
        add: `add(tokens [B, C, D], where [B, C, K]) -> [B, C, D]`, before the first block.
        rotate: `rotate(heads [B, C, H, D]) -> [B, C, H, D]`, on queries and keys in every block.
    """

    add: Callable[[Array, Array], Array]
    rotate: Callable[[Array], Array]


def none() -> Position:
    """No encoding: a context is a bag of items."""
    return Position(lambda tokens, where: tokens, lambda heads: heads)


def sinusoidal() -> Position:
    """Adds sines and cosines of *when* (Vaswani et al. 2017)."""

    def add(tokens: Array, where: Array) -> Array:
        del where
        return tokens + waves(jnp.arange(tokens.shape[1]), tokens.shape[2])[None]

    return Position(add, lambda heads: heads)


def rotary() -> Position:
    """Turns queries and keys by an angle that grows with *when*, so that only distances count (Su et al. 2021)."""

    def rotate(heads: Array) -> Array:
        size = heads.shape[-1]
        turns = waves(jnp.arange(heads.shape[1]), size)[None, :, None]
        sine, cosine = turns[..., : size // 2], turns[..., size // 2 :]
        first, second = heads[..., : size // 2], heads[..., size // 2 :]
        return jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)

    return Position(lambda tokens, where: tokens, rotate)


def location(scale: float = 1.0) -> Position:
    """Adds sines and cosines of *where* the item is, not of when it was met: each coordinate's waves, summed.

    Args:
        scale: multiplies the coordinates; 1 suits places about 1 apart.
    """

    def add(tokens: Array, where: Array) -> Array:
        coordinates = where.shape[2]
        # Each coordinate starts at another place of the width, so that (1, 2) is not (2, 1).
        shift = tokens.shape[2] // coordinates
        each = waves(where * scale, tokens.shape[2])
        return tokens + sum(jnp.roll(each[:, :, k], k * shift, axis=-1) for k in range(coordinates))

    return Position(add, lambda heads: heads)


def waves(positions: Array, dims: int) -> Array:
    """Sines, then cosines, of positions [...], wavelengths growing from 2 pi to 20,000 pi: [..., dims].

    Raises:
        ValueError: if dims is odd.
    """
    if dims % 2:
        raise ValueError(
            f"a position encoding of {dims} dimensions: sines and cosines come in pairs; give an even number"
        )
    rates = 10_000.0 ** (-jnp.arange(dims // 2) / (dims // 2))
    angles = jnp.expand_dims(positions.astype(jnp.float32), -1) * rates.reshape((1,) * positions.ndim + (-1,))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
