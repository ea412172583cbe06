"""Which keys a query attends to, as small values that compose: `Window(128) | Global(4) | TopK(block=64, blocks=8)`.

A pattern says nothing of direction: `attention(..., causal=True)` takes away what comes after the query. Places are
indices in a row, counted from 0. Whether a place may see another is asked by `sees`; all patterns but `TopK` answer
by the places alone, `TopK` looks at what stands there (see `thinking.networks.attention.top_k`).
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp

from thinking.types import Array


class Pattern:
    """The base of all patterns: `|` unites them."""

    def __or__(self, other: "Pattern") -> "Pattern":
        parts = tuple(dict.fromkeys([*pattern_parts(self), *pattern_parts(other)]))
        # Beside a part that sees everything the others add nothing.
        return Dense() if Dense() in parts else Union(parts)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{self}: {field.name} {value} is out of range; give a whole number, at least 1")


@dataclass(frozen=True)
class Dense(Pattern):
    """Every key."""


@dataclass(frozen=True)
class Window(Pattern):
    """The keys less than `size` away, so that `Window(1)` is the query's own place (Beltagy et al. 2020)."""

    size: int


@dataclass(frozen=True)
class Strided(Pattern):
    """The keys a multiple of `stride` away, at most `size - 1` strides; all of them by default (Child et al. 2019)."""

    stride: int
    size: int | None = None


@dataclass(frozen=True)
class Global(Pattern):
    """The first `count` places of a row see all, and all see them (Beltagy et al. 2020)."""

    count: int


@dataclass(frozen=True)
class TopK(Pattern):
    """Blocks of `block` queries each pick the `blocks` blocks of keys that look most useful, their own included.

    A block is judged by its mean key (as in mixture of block attention, Lu et al. 2025), against the sum of the queries
    of the block *before*: that precedes every query of the block, so decoding token by token picks the same. Heads
    that share keys pick together (as in native sparse attention, Yuan et al. 2025). Without causality a block's own
    queries judge. Blocks belong to rows: where a row packs several texts, what one text picks depends on its
    neighbours, though it never sees them.
    """

    block: int
    blocks: int


@dataclass(frozen=True)
class Union(Pattern):
    """What any of several patterns sees; a pair that several see counts once. Made by `|`.

    Raises:
        ValueError: for several `TopK`; one with more blocks does the same.
    """

    parts: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        if sum(isinstance(part, TopK) for part in self.parts) > 1:
            raise ValueError(f"{self} unites several TopK; keep one, with more blocks")


def pattern_parts(pattern: Pattern) -> tuple[Pattern, ...]:
    """The patterns that a union unites, or the one pattern itself."""
    return pattern.parts if isinstance(pattern, Union) else (pattern,)


def is_visible(pattern: Pattern, query: Array, key: Array) -> Array:
    """Whether places see each other, by the places alone; arrays of integers that broadcast.

    Raises:
        ValueError: for `TopK`, which does not go by places.
    """
    distance = jnp.abs(query - key)
    match pattern:
        case Dense():
            return jnp.broadcast_to(True, distance.shape)
        case Window(size):
            return distance < size
        case Strided(stride, size):
            far = jnp.broadcast_to(True, distance.shape) if size is None else distance < stride * size
            return (distance % stride == 0) & far
        case Global(count):
            return jnp.minimum(query, key) < count
        case Union(parts):
            return _any(is_visible(part, query, key) for part in parts)
        case _:
            raise ValueError(f"{pattern} does not go by places alone")


def memory_bounds(pattern: Pattern) -> tuple[int, int] | None:
    """What a causal decoder must remember: the first places, and the last ones, the newest included.

    Returns:
        (first, last), or None if it must remember everything.
    """
    first, last = 0, 1
    for part in pattern_parts(pattern):
        match part:
            case Window(size):
                last = max(last, size)
            case Strided(stride, int() as size):
                last = max(last, stride * (size - 1) + 1)
            case Global(count):
                first = max(first, count)
            case _:
                return None
    return first, last


def _any(parts: Iterator[Array]) -> Array:
    found = next(parts)
    for part in parts:
        found = found | part
    return found
