"""Sliding-window attention in chunks (Beltagy et al. 2020), and strided attention as windows of regrouped tokens.

A chunk of queries looks at its own keys and at the chunks beside it, however long the row is.

Axes: B rows, G heads of keys, R query heads that share each, T tokens, E dimensions of a head, N chunks.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.partials import (
    MaskFn,
    Partial,
    Rows,
    Sizes,
    Tokens,
    compute_step_size,
    map_in_steps,
    pad_axis,
    pad_rows,
    take_first,
    weigh,
)
from thinking.networks.attention.whole import dense
from thinking.types import Array


def window(rows: Rows, size: int, causal: bool, mask_fn: MaskFn, sizes: Sizes) -> Partial:
    """Every query looks at the keys less than `size` away, as far as they are allowed."""
    tokens = rows.q.shape[1]
    if size >= tokens:
        return dense(rows, mask_fn, sizes)
    chunk = min(sizes.chunk, tokens)
    before = -(-(size - 1) // chunk) * chunk
    behind = 0 if causal else before
    seen = before + chunk + behind
    step = compute_step_size(rows, seen, chunk, sizes)
    rows = pad_rows(rows, step)
    around = jax.tree.map(lambda x: pad_axis(x, 1, before, behind), rows._replace(q=()))

    def beside(x: Array) -> Array:
        """For each of N chunks what it looks at, [..., N, seen, ...]."""
        shape = len(x), step // chunk, chunk, *x.shape[2:]
        shifted = [jax.lax.slice_in_dim(x, i, i + step, axis=1).reshape(shape) for i in range(0, seen, chunk)]
        return jnp.concatenate(shifted, axis=2)

    def look(start: Array, q: Array, queries: Tokens) -> Partial:
        here = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, step + before + behind, 1), around)
        k, v = (jnp.moveaxis(beside(x), 3, 1) for x in (here.k, here.v))
        return weigh(q, k, v, mask_fn(queries, jax.tree.map(beside, here.tokens))[:, None])

    return take_first(map_in_steps(look, rows, step, chunk), tokens)


def strided(rows: Rows, stride: int, size: int | None, causal: bool, mask_fn: MaskFn, sizes: Sizes) -> Partial:
    """Every query looks at the keys a multiple of `stride` away, as far as they are allowed.

    Tokens a multiple of the stride apart make a row of their own, and their neighbours there are what they look at.
    """
    batch, tokens = rows.q.shape[:2]
    rows = pad_rows(rows, stride)

    def regroup(x: Array) -> Array:
        x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
        return x.reshape(batch, -1, stride, *x.shape[2:]).swapaxes(1, 2).reshape(batch * stride, -1, *x.shape[2:])

    def restore(x: Array) -> Array:
        return x.reshape(batch, stride, *x.shape[1:]).swapaxes(1, 2).reshape(batch, -1, *x.shape[2:])

    rows = jax.tree.map(regroup, rows)
    found = dense(rows, mask_fn, sizes) if size is None else window(rows, size, causal, mask_fn, sizes)
    return take_first(jax.tree.map(restore, found), tokens)
