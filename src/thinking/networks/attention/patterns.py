"""Which keys a query attends to, as values that compose: `Window(128) | Global(4) | TopK(block_size=64, num_blocks=8)`.

Patterns are symmetric; `attention(..., causal=True)` adds causality. Positions are indices in a row, from 0. All
patterns but `TopK` depend on positions alone (`is_visible`); `TopK` depends on content
(`thinking.networks.attention.top_k`).
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp

from thinking.types import Array


class Pattern:
    """The base of all patterns; `|` gives their union."""

    def __or__(self, other: "Pattern") -> "Pattern":
        parts = tuple(dict.fromkeys([*pattern_parts(self), *pattern_parts(other)]))
        # A dense part makes the others redundant.
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
    """The keys less than `size` away; `Window(1)` is the query's own position (Beltagy et al. 2020)."""

    size: int


@dataclass(frozen=True)
class Strided(Pattern):
    """The keys a multiple of `stride` away, at most `size - 1` strides; all of them by default (Child et al. 2019)."""

    stride: int
    size: int | None = None


@dataclass(frozen=True)
class Global(Pattern):
    """The first `count` positions of a row see all, and all see them (Beltagy et al. 2020)."""

    count: int


@dataclass(frozen=True)
class TopK(Pattern):
    """Each block of `block_size` queries attends to the `num_blocks` highest-scoring blocks of keys, its own included.

    A block's score is its mean key (as in mixture of block attention, Lu et al. 2025) times the summed queries of the
    *previous* block, which precede all queries of the block, so decoding token by token selects the same. Heads that
    share keys select together (as in native sparse attention, Yuan et al. 2025). Without causality a block's own
    queries are used. Blocks belong to rows: where a row packs several texts, what a text selects depends on its
    neighbours, though it never sees them.
    """

    block_size: int
    num_blocks: int


@dataclass(frozen=True)
class Union(Pattern):
    """The keys that any of several patterns sees. Made by `|`.

    Raises:
        ValueError: for several `TopK`; use one with more blocks.
    """

    parts: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        if sum(isinstance(part, TopK) for part in self.parts) > 1:
            raise ValueError(f"{self} unites several TopK; keep one, with more blocks")


def pattern_parts(pattern: Pattern) -> tuple[Pattern, ...]:
    """The patterns that a union unites, or the one pattern itself."""
    return pattern.parts if isinstance(pattern, Union) else (pattern,)


def is_visible(pattern: Pattern, query: Array, key: Array) -> Array:
    """Whether positions see each other; arrays of integers that broadcast.

    Raises:
        ValueError: for `TopK`, which depends on content.
    """
    distance = jnp.abs(query - key)
    match pattern:
        case Dense():
            return jnp.broadcast_to(True, distance.shape)
        case Window(size):
            return distance < size
        case Strided(stride, size):
            in_reach = jnp.broadcast_to(True, distance.shape) if size is None else distance < stride * size
            return (distance % stride == 0) & in_reach
        case Global(count):
            return jnp.minimum(query, key) < count
        case Union(parts):
            return _any(is_visible(part, query, key) for part in parts)
        case _:
            raise ValueError(f"{pattern} depends on content, not on positions alone")


def cache_bounds(pattern: Pattern) -> tuple[int, int] | None:
    """How many first and last positions, the newest included, a causal decoder must cache; None if all."""
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
    result = next(parts)
    for part in parts:
        result = result | part
    return result
