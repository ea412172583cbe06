"""Position encodings as plug-ins: none, sinusoidal, rotary, learned, location, orthogonal.

Axes: B rows, C tokens, D dimensions of a token, H heads, K coordinates of a place. *When* a token stands is its number
[B, C] in its row, or [1, C] where all rows count alike.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from thinking.types import Array


class Position(NamedTuple):
    """What an encoding does to tokens, and what to queries and keys.

    Attributes:
        add: `add(tokens [B, C, D], when [B, C], where [B, C, K]) -> [B, C, D]`, before the first block.
        rotate: `rotate(heads [B, C, H, D], when [B, C]) -> [B, C, H, D]`, on queries and keys in every block.
        num_learned: how many places have a learned vector, which the network holds and adds before the first block.
    """

    add: Callable[[Array, Array, Array], Array]
    rotate: Callable[[Array, Array], Array]
    num_learned: int = 0


def none() -> Position:
    """No encoding: a context is a bag of items."""
    return Position(_keep_tokens, lambda heads, when: heads)


def sinusoidal() -> Position:
    """Adds sines and cosines of *when* (Vaswani et al. 2017)."""

    def add(tokens: Array, positions: Array, coordinates: Array) -> Array:
        del coordinates
        return tokens + sinusoids(positions, tokens.shape[-1]).astype(tokens.dtype)

    return Position(add, lambda heads, when: heads)


def rotary() -> Position:
    """Turns queries and keys by an angle that grows with *when*, so that only distances count (Su et al. 2021)."""

    def rotate(heads: Array, positions: Array) -> Array:
        size = heads.shape[-1]
        turns = sinusoids(positions, size)[:, :, None].astype(heads.dtype)
        sine, cosine = turns[..., : size // 2], turns[..., size // 2 :]
        first, second = heads[..., : size // 2], heads[..., size // 2 :]
        return jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)

    return Position(_keep_tokens, rotate)


def learned(num_positions: int) -> Position:
    """A vector of its own for each of so many places, learned with the network (Gehring et al. 2017).

    Args:
        num_positions: how many; a token beyond them is refused or clipped by whoever holds the vectors.

    Raises:
        ValueError: if there is none.
    """
    if num_positions < 1:
        raise ValueError(f"learned positions: num_positions {num_positions} is out of range; give at least 1")
    return Position(_keep_tokens, lambda heads, when: heads, num_learned=num_positions)


def location(scale: float = 1.0) -> Position:
    """Adds sines and cosines of *where* the item is, not of when it was met: each coordinate's waves, summed.

    Args:
        scale: multiplies the coordinates; 1 suits places about 1 apart.
    """

    def add(tokens: Array, positions: Array, coordinates: Array) -> Array:
        del positions
        return tokens + _sum_coordinates(sinusoids(coordinates * scale, tokens.shape[2])).astype(tokens.dtype)

    return Position(add, lambda heads, when: heads)


def orthogonal() -> Position:
    """Adds a vector of length 1 for each coordinate of *where*, whole numbers that are looked up rather than compared.

    Sines and cosines at evenly spaced rates: vectors of numbers less than D apart are at right angles (but for
    rounding), so no place resembles its neighbours, and words, which begin as long, are not drowned.
    """

    def add(tokens: Array, positions: Array, coordinates: Array) -> Array:
        del positions
        dims = tokens.shape[2]
        rates = 2 * jnp.pi / dims * (jnp.arange(_pairs(dims)) + 0.5)
        return tokens + (2 / dims) ** 0.5 * _sum_coordinates(_sinusoids_at_rates(coordinates, rates)).astype(
            tokens.dtype
        )

    return Position(add, lambda heads, when: heads)


def _keep_tokens(tokens: Array, positions: Array, coordinates: Array) -> Array:
    del positions, coordinates
    return tokens


def sinusoids(positions: Array, dims: int) -> Array:
    """Sines, then cosines, of positions [...], wavelengths growing from 2 pi to 20,000 pi: [..., dims].

    Raises:
        ValueError: if dims is odd.
    """
    pairs = _pairs(dims)
    return _sinusoids_at_rates(positions, 10_000.0 ** (-jnp.arange(pairs) / pairs))


def _sinusoids_at_rates(positions: Array, rates: Array) -> Array:
    """Sines, then cosines, of positions [...] at rates [R]: [..., 2 R]."""
    angles = jnp.expand_dims(positions.astype(jnp.float32), -1) * rates.reshape((1,) * positions.ndim + (-1,))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _sum_coordinates(each: Array) -> Array:
    """[B, C, D], the sum over coordinates of [B, C, K, D]."""
    coordinates, dims = each.shape[2:]
    # Each coordinate starts at another place of the width, so that (1, 2) is not (2, 1).
    return sum(jnp.roll(each[:, :, k], k * (dims // coordinates), axis=-1) for k in range(coordinates))


def _pairs(dims: int) -> int:
    if dims % 2:
        raise ValueError(
            f"a position encoding of {dims} dimensions: sines and cosines come in pairs; give an even number"
        )
    return dims // 2
