"""Types that everybody needs: arrays, metrics, and the spaces that say what a thing is.

Axes: D dimensions of a vector.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Params = Any
"""A PyTree of arrays that are learned."""
State = Any
"""A PyTree of arrays that a pure function takes and returns."""
Metrics = dict[str, Array]
"""Scalars by name."""


@dataclass(frozen=True)
class Discrete:
    """Whole numbers from 0 to `size - 1`, held as int32 without a trailing axis."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Discrete({self.size}): a discrete space has at least 1 value; give its size")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one thing."""
        return ()

    @property
    def dtype(self) -> Any:
        """Of what is held."""
        return jnp.int32


@dataclass(frozen=True)
class Box:
    """Vectors of `dims` float32 numbers, held with a trailing axis [D]."""

    dims: int

    def __post_init__(self) -> None:
        if self.dims < 1:
            raise ValueError(f"Box({self.dims}): a vector has at least 1 dimension; give its dimensions")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one thing."""
        return (self.dims,)

    @property
    def dtype(self) -> Any:
        """Of what is held."""
        return jnp.float32


Space = Discrete | Box


def value_width(space: Space) -> int:
    """How many numbers a network needs to read or say one thing of this space."""
    return space.size if isinstance(space, Discrete) else space.dims
