"""Position encodings: none, sinusoidal, rotary, learned, location, orthogonal.

Axes: B rows, C tokens, D dimensions of a token, H heads, K coordinates of a token. Positions are indices in a row
[B, C], or [1, C] where all rows count alike; coordinates say where an item is.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from thinking.types import Array


class Position(NamedTuple):
    """An encoding.

    Attributes:
        add: `add(tokens [B, C, D], positions [B, C], coordinates [B, C, K]) -> [B, C, D]`, before the first block.
        rotate: `rotate(heads [B, C, H, D], positions [B, C]) -> [B, C, H, D]`, on queries and keys in every block.
        num_learned: number of learned position embeddings, which the network owns and adds before the first block.
    """

    add: Callable[[Array, Array, Array], Array]
    rotate: Callable[[Array, Array], Array]
    num_learned: int = 0


def none() -> Position:
    """No encoding: a context is a bag of items."""
    return Position(_keep_tokens, lambda heads, positions: heads)


def sinusoidal() -> Position:
    """Adds sines and cosines of the position (Vaswani et al. 2017)."""

    def add(tokens: Array, positions: Array, coordinates: Array) -> Array:
        del coordinates
        return (tokens + sinusoids(positions, tokens.shape[-1])).astype(tokens.dtype)

    return Position(add, lambda heads, positions: heads)


def rotary() -> Position:
    """Rotates queries and keys by an angle proportional to the position, so only distances count (Su et al. 2021).

    It rotates in float32: with sines in bfloat16, dot products would drift with the position.
    """

    def rotate(heads: Array, positions: Array) -> Array:
        size = heads.shape[-1]
        sincos = sinusoids(positions, size)[:, :, None]
        sine, cosine = sincos[..., : size // 2], sincos[..., size // 2 :]
        first, second = heads[..., : size // 2], heads[..., size // 2 :]
        rotated = jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)
        return rotated.astype(heads.dtype)

    return Position(_keep_tokens, rotate)


def learned(num_positions: int) -> Position:
    """A learned embedding for each position (Gehring et al. 2017).

    The network that holds them refuses or clips larger positions.

    Raises:
        ValueError: if `num_positions` is below 1.
    """
    if num_positions < 1:
        raise ValueError(f"learned positions: num_positions {num_positions} is out of range; give at least 1")
    return Position(_keep_tokens, lambda heads, positions: heads, num_learned=num_positions)


def location(scale: float = 1.0) -> Position:
    """Adds sines and cosines of each coordinate times `scale`, summed; scale 1 suits items about 1 apart."""

    def add(tokens: Array, positions: Array, coordinates: Array) -> Array:
        del positions
        return (tokens + _sum_coordinates(sinusoids(coordinates * scale, tokens.shape[2]))).astype(tokens.dtype)

    return Position(add, lambda heads, positions: heads)


def orthogonal() -> Position:
    """Adds a unit vector for each integer coordinate, for lookup rather than comparison.

    The vectors are sines and cosines at evenly spaced rates: those of integers less than D apart are orthogonal but for
    rounding, so no place resembles its neighbours. Token embeddings have about the same initial length.
    """

    def add(tokens: Array, positions: Array, coordinates: Array) -> Array:
        del positions
        dims = tokens.shape[2]
        rates = 2 * jnp.pi / dims * (jnp.arange(_pairs(dims)) + 0.5)
        vectors = (2 / dims) ** 0.5 * _sum_coordinates(_sinusoids_at_rates(coordinates, rates))
        return (tokens + vectors).astype(tokens.dtype)

    return Position(add, lambda heads, positions: heads)


def _keep_tokens(tokens: Array, positions: Array, coordinates: Array) -> Array:
    del positions, coordinates
    return tokens


def sinusoids(positions: Array, dims: int) -> Array:
    """[..., dims] sines, then cosines, of positions [...]; wavelengths grow from 2 pi to 20,000 pi.

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
    # Each coordinate is shifted along the width by another amount, so that (1, 2) is not (2, 1).
    return sum(jnp.roll(each[:, :, k], k * (dims // coordinates), axis=-1) for k in range(coordinates))


def _pairs(dims: int) -> int:
    if dims % 2:
        raise ValueError(
            f"a position encoding of {dims} dimensions: sines and cosines come in pairs; give an even number"
        )
    return dims // 2
