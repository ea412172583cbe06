"""Means, spreads and standard scores under a mask, and moments of a stream.

Entries of mask 0 may be anything, NaN and infinities included: they change no value and no gradient.

A spread no larger than the rounding of its numbers counts as 0. Squares are summed about the mean, and the sums of
parts are merged as in Chan, Golub & LeVeque (1983, "Algorithms for computing the sample variance"): in float32,
E[x^2] - E[x]^2 has no correct digit once the mean is some thousand times the spread.
"""

from typing import NamedTuple

import jax.numpy as jnp

from thinking.types import Array

ROUNDING = 16 * float(jnp.finfo(jnp.float32).eps)
"""Largest ratio of a spread to the magnitude of its numbers that counts as rounding, of a few float32 operations."""


def clear_masked(x: Array, mask: Array) -> Array:
    """The array where the mask is above 0, else 0; so is its gradient.

    Clear the factors of a product rather than the product: the gradient of one factor is 0 times the other, which is
    NaN if that is not finite.
    """
    return jnp.where(mask > 0, x, 0)


def masked_mean(x: Array, mask: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Mean of x weighted by the mask, along an axis or of all; 0 if the mask is 0 everywhere."""
    total = jnp.sum(clear_masked(x, mask) * mask, axis=axis, keepdims=keepdims)
    weight = jnp.sum(mask, axis=axis, keepdims=keepdims)
    return total / jnp.where(weight > 0, weight, 1)


def standard_deviation(x: Array, mask: Array, axis: int | None = None) -> Array:
    """Standard deviation of x under the mask, along an axis or of all; 0 if it is no larger than the rounding of x."""
    return jnp.squeeze(_standard_deviation(x, mask, axis), axis)


def standardize(x: Array, mask: Array, axis: int | None = None) -> Array:
    """Standard scores of x along an axis or of all: mean 0 and standard deviation 1 under the mask.

    They are 0 where the mask is, and where the spread is no larger than the rounding of x.
    """
    std = _standard_deviation(x, mask, axis)
    return jnp.where(std > 0, _center(x, mask, axis)[1] / jnp.where(std > 0, std, 1), 0)


class Moments(NamedTuple):
    """Moments of a stream of vectors [D].

    Attributes:
        count: [] float32, number of vectors.
        mean: [D].
        sum_of_squares: [D], of differences from the mean.
    """

    count: Array
    mean: Array
    sum_of_squares: Array

    @property
    def std(self) -> Array:
        """[D] standard deviation; 0 if it is no larger than the rounding of the mean."""
        std = jnp.sqrt(self.sum_of_squares / jnp.where(self.count > 0, self.count, 1))
        return _clear_rounding(std, jnp.abs(self.mean))


def init_moments(num_dims: int) -> Moments:
    """Moments of no vector."""
    return Moments(jnp.zeros(()), jnp.zeros(num_dims), jnp.zeros(num_dims))


def update_moments(moments: Moments, x: Array, mask: Array) -> Moments:
    """Moments with further vectors [N, D] of weight `mask` [N]."""
    mask = jnp.broadcast_to(mask[:, None], x.shape)
    mean, centered = _center(x, mask, 0)
    num_new = jnp.sum(mask[:, 0])
    count = moments.count + num_new
    share, delta = num_new / jnp.where(count > 0, count, 1), mean[0] - moments.mean
    return Moments(
        count,
        moments.mean + share * delta,
        moments.sum_of_squares + jnp.sum(centered**2 * mask, axis=0) + moments.count * share * delta**2,
    )


def _standard_deviation(x: Array, mask: Array, axis: int | None) -> Array:
    """`standard_deviation` with the reduced axes kept."""
    std = jnp.sqrt(masked_mean(_center(x, mask, axis)[1] ** 2, mask, axis, keepdims=True))
    return _clear_rounding(std, jnp.max(jnp.abs(clear_masked(x, mask)), axis=axis, keepdims=True))


def _center(x: Array, mask: Array, axis: int | None) -> tuple[Array, Array]:
    """The mean, with the reduced axes kept, and x less its mean, 0 where the mask is."""
    x = clear_masked(x, mask)
    low = jnp.min(x, axis=axis, keepdims=True, where=mask > 0, initial=jnp.inf)
    high = jnp.max(x, axis=axis, keepdims=True, where=mask > 0, initial=-jnp.inf)
    # Equal entries equal their mid-range bit by bit, whatever the rounding of a sum of them.
    pivot = jnp.where(low <= high, 0.5 * (low + high), 0)
    shift = masked_mean(x - pivot, mask, axis, keepdims=True)
    return pivot + shift, clear_masked(x - pivot - shift, mask)


def _clear_rounding(std: Array, magnitude: Array) -> Array:
    """Standard deviations, 0 where they are no larger than the rounding of numbers of this magnitude."""
    return jnp.where(std > ROUNDING * magnitude, std, 0)
