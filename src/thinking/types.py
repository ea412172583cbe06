"""Common types: arrays, metrics and spaces.

Axes: D dimensions of a vector.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Params = Any
"""A PyTree of trainable arrays."""
State = Any
"""A PyTree of arrays that a pure function takes and returns."""


class Measured(NamedTuple):
    """A metric that only some steps measure: over several steps, the mean of those that did.

    Attributes:
        value: [] the value; anything where it was not measured.
        is_measured: [] bool.
    """

    value: Array
    is_measured: Array


class Latest(NamedTuple):
    """A metric that accumulates, such as a count: over several steps, the last value.

    Attributes:
        value: [].
    """

    value: Array


Metrics = dict[str, Array | Measured | Latest]
"""Scalars by name; a plain one is measured in every step, and averaged over several."""


@dataclass(frozen=True)
class Discrete:
    """Integers from 0 to `size - 1`, int32 without a trailing axis."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Discrete({self.size}): a discrete space has at least 1 value; give its size")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one element."""
        return ()

    @property
    def dtype(self) -> Any:
        """Type of an element."""
        return jnp.int32


@dataclass(frozen=True)
class Box:
    """Vectors of `dims` float32 numbers, with a trailing axis [D]."""

    dims: int

    def __post_init__(self) -> None:
        if self.dims < 1:
            raise ValueError(f"Box({self.dims}): a vector has at least 1 dimension; give its dimensions")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one element."""
        return (self.dims,)

    @property
    def dtype(self) -> Any:
        """Type of an element."""
        return jnp.float32


Space = Discrete | Box


def value_width(space: Space) -> int:
    """How many inputs or outputs of a network represent one element of this space."""
    return space.size if isinstance(space, Discrete) else space.dims
