"""Sliding-window attention in chunks (Beltagy et al. 2020), and strided attention as windows of regrouped tokens.

A chunk of queries looks at its own keys and at the chunks beside it, however long the row is.

Axes: B rows, G heads of keys, R query heads that share each, T tokens, E dimensions of a head, N chunks.
"""

import jax
import jax.numpy as jnp

from thinking.networks.partials import (
    Allowed,
    Array,
    Partial,
    Rows,
    Sizes,
    Tokens,
    first,
    in_steps,
    padded,
    step_size,
    weigh,
    widened,
)
from thinking.networks.whole import dense


def window(rows: Rows, size: int, causal: bool, allowed: Allowed, sizes: Sizes) -> Partial:
    """Every query looks at the keys less than `size` away, as far as they are allowed."""
    tokens = rows.q.shape[1]
    if size >= tokens:
        return dense(rows, allowed, sizes)
    chunk = min(sizes.chunk, tokens)
    before = -(-(size - 1) // chunk) * chunk
    behind = 0 if causal else before
    seen = before + chunk + behind
    step = step_size(rows, seen, chunk, sizes)
    rows = padded(rows, step)
    k, v = (widened(x, 2, before, behind) for x in (rows.k, rows.v))
    keys = jax.tree.map(lambda x: widened(x, 1, before, behind), rows.tokens)

    def beside(x: Array, axis: int, start: Array) -> Array:
        """For each of N chunks from `start` what it looks at: [..., N, seen, ...]."""
        x = jax.lax.dynamic_slice_in_dim(x, start, step + before + behind, axis)
        shape = (*x.shape[:axis], step // chunk, chunk, *x.shape[axis + 1 :])
        shifted = [jax.lax.slice_in_dim(x, i, i + step, axis=axis).reshape(shape) for i in range(0, seen, chunk)]
        return jnp.concatenate(shifted, axis=axis + 1)

    def look(start: Array, q: Array, queries: Tokens) -> Partial:
        asked = jax.tree.map(lambda x: beside(x, 1, start), keys)
        return weigh(q, beside(k, 2, start), beside(v, 2, start), allowed(queries, asked)[:, None])

    return first(in_steps(look, rows, step, chunk), tokens)


def strided(rows: Rows, stride: int, size: int | None, causal: bool, allowed: Allowed, sizes: Sizes) -> Partial:
    """Every query looks at the keys a multiple of `stride` away, as far as they are allowed.

    Tokens a multiple of the stride apart make a row of their own, and their neighbours there are what they look at.
    """
    batch, tokens = rows.q.shape[:2]
    rows = padded(rows, stride)

    def regroup(x: Array, axis: int) -> Array:
        x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
        x = jnp.moveaxis(x.reshape(*x.shape[:axis], -1, stride, *x.shape[axis + 1 :]), axis + 1, 1)
        return x.reshape(-1, *x.shape[2:])

    def restore(x: Array) -> Array:
        return x.reshape(batch, stride, *x.shape[1:]).swapaxes(1, 2).reshape(batch, -1, *x.shape[2:])

    regrouped = jax.tree.map(lambda x: regroup(x, 1), rows.tokens)
    rows = Rows(regroup(rows.q, 1), regroup(rows.k, 2), regroup(rows.v, 2), regrouped)
    found = dense(rows, allowed, sizes) if size is None else window(rows, size, causal, allowed, sizes)
    return first(jax.tree.map(restore, found), tokens)
