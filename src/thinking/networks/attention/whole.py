"""Attention to whole stretches of keys: dense, and the first places of a row.

Axes: B rows, G heads of keys, R query heads that share each, T tokens, E dimensions of a head.
"""

import jax

from thinking.networks.attention.partials import (
    Allowed,
    Partial,
    Rows,
    Sizes,
    Tokens,
    first,
    in_steps,
    merge,
    padded,
    step_size,
    weigh,
)
from thinking.types import Array


def dense(rows: Rows, allowed: Allowed, sizes: Sizes) -> Partial:
    """All queries look at all keys, a stretch of queries at a time."""
    return _look(rows, rows, allowed, sizes)


def first_places(rows: Rows, count: int, causal: bool, allowed: Allowed, sizes: Sizes) -> Partial:
    """All queries look at the first keys, and without causality the first queries at all keys."""
    everyone = _look(rows, _stretch(rows, 0, count), allowed, sizes)
    if causal:
        return everyone
    others = _look(_stretch(rows, 0, count), _stretch(rows, count, None), allowed, sizes)
    leading = merge([first(everyone, count), others])
    return jax.tree.map(lambda all_, some: all_.at[:, :count].set(some), everyone, leading)


def _look(asking: Rows, asked: Rows, allowed: Allowed, sizes: Sizes) -> Partial:
    """The queries of some rows look at the keys of others."""
    tokens = asking.q.shape[1]
    k, v = (x.swapaxes(1, 2)[:, :, None] for x in (asked.k, asked.v))
    step = step_size(asking, asked.k.shape[1], min(sizes.chunk, tokens), sizes)

    def look(start: Array, q: Array, queries: Tokens) -> Partial:
        del start
        mask = allowed(queries, jax.tree.map(lambda x: x[:, None], asked.tokens))[:, None]
        return weigh(q, k, v, mask)

    return first(in_steps(look, padded(asking, step), step, step), tokens)


def _stretch(rows: Rows, start: int, stop: int | None) -> Rows:
    return jax.tree.map(lambda x: x[:, start:stop], rows)
