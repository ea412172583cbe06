"""Unit lower triangular systems, solved by matrix products.

XLA's CPU backend waits for ever in several batched calls of LAPACK's triangular solver on two cores; products of
matrices do not, and are faster there.

Axes: N equations, K right-hand sides.
"""

import jax
import jax.numpy as jnp

from thinking.types import Array

SMALL_SIZE = 4
"""Blocks up to this size are multiplied element by element, in one fused loop."""


@jax.custom_vjp
def solve_unit_lower(lower: Array, sides: Array) -> Array:
    """X of (I + lower) X = sides.

    The inverse is built from those of blocks, twice as large each time: [[A, 0], [C, B]] has the inverse
    [[A', 0], [-B' C A', B']]. Unlike a power series of `lower`, it stays exact where the powers grow.

    Args:
        lower: [..., N, N], strictly lower triangular.
        sides: [..., N, K].

    Returns:
        [..., N, K].
    """
    return _invert(lower) @ sides


def _solve_forward(lower: Array, sides: Array) -> tuple[Array, tuple[Array, Array]]:
    inverse = _invert(lower)
    solution = inverse @ sides
    return solution, (inverse, solution)


def _solve_backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    inverse, solution = residuals
    sides = inverse.swapaxes(-1, -2) @ cotangent
    return -jnp.tril(sides @ solution.swapaxes(-1, -2), -1), sides


solve_unit_lower.defvjp(_solve_forward, _solve_backward)


def _invert(lower: Array) -> Array:
    """The inverse of I + lower, [..., N, N]."""
    size = lower.shape[-1]
    padding = (1 << (size - 1).bit_length()) - size
    padded = jnp.pad(lower, [(0, 0)] * (lower.ndim - 2) + [(0, padding)] * 2)
    return _invert_power_of_two(padded)[..., :size, :size]


def _invert_power_of_two(lower: Array) -> Array:
    size = lower.shape[-1]
    if size == 1:
        return jnp.ones_like(lower)
    half = size // 2
    blocks = jnp.stack([lower[..., :half, :half], lower[..., half:, half:]])
    first, second = _invert_power_of_two(blocks)
    corner = -_multiply(_multiply(second, lower[..., half:, :half]), first)
    return jnp.block([[first, jnp.zeros_like(first)], [corner, second]])


def _multiply(left: Array, right: Array) -> Array:
    if left.shape[-1] > SMALL_SIZE:
        return left @ right
    return jnp.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)
