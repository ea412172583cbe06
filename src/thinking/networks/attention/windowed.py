"""Sliding-window attention in chunks (Beltagy et al. 2020), and strided attention as windows over regrouped tokens.

A chunk of queries attends to its own keys and to neighbouring chunks, at any row length.

Axes: B rows, G key-value heads, R query heads that share each, T tokens, E dimensions of a head, N chunks.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.dense import dense_attention
from thinking.networks.attention.partials import (
    QKV,
    BlockSizes,
    MaskFn,
    PartialSoftmax,
    TokenPositions,
    compute_step_size,
    map_in_steps,
    pad_axis,
    pad_rows,
    partial_softmax,
    take_first,
)
from thinking.types import Array


def window_attention(rows: QKV, size: int, causal: bool, mask_fn: MaskFn, sizes: BlockSizes) -> PartialSoftmax:
    """Attention to the keys less than `size` away, under the mask."""
    tokens = rows.q.shape[1]
    if size >= tokens:
        return dense_attention(rows, mask_fn, sizes)
    chunk = min(sizes.chunk_size, tokens)
    before = -(-(size - 1) // chunk) * chunk
    after = 0 if causal else before
    num_keys = before + chunk + after
    step = compute_step_size(rows, num_keys, chunk, sizes)
    rows = pad_rows(rows, step)
    padded = jax.tree.map(lambda x: pad_axis(x, 1, before, after), rows._replace(q=()))

    def gather_keys(x: Array) -> Array:
        """For each of N chunks the keys that it sees, [..., N, num_keys, ...]."""
        shape = len(x), step // chunk, chunk, *x.shape[2:]
        shifted = [jax.lax.slice_in_dim(x, i, i + step, axis=1).reshape(shape) for i in range(0, num_keys, chunk)]
        return jnp.concatenate(shifted, axis=2)

    def attend(start: Array, q: Array, queries: TokenPositions) -> PartialSoftmax:
        nearby = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, step + before + after, 1), padded)
        k, v = (jnp.moveaxis(gather_keys(x), 3, 1) for x in (nearby.k, nearby.v))
        return partial_softmax(q, k, v, mask_fn(queries, jax.tree.map(gather_keys, nearby.tokens))[:, None])

    return take_first(map_in_steps(attend, rows, step, chunk), tokens)


def strided_attention(
    rows: QKV, stride: int, size: int | None, causal: bool, mask_fn: MaskFn, sizes: BlockSizes
) -> PartialSoftmax:
    """Attention to the keys a multiple of `stride` away, under the mask.

    TokenPositions a multiple of the stride apart form a row of their own, in which neighbours attend to each other.
    """
    batch, tokens = rows.q.shape[:2]
    rows = pad_rows(rows, stride)

    def regroup(x: Array) -> Array:
        x = jnp.broadcast_to(x, (batch, *x.shape[1:]))
        return x.reshape(batch, -1, stride, *x.shape[2:]).swapaxes(1, 2).reshape(batch * stride, -1, *x.shape[2:])

    def restore(x: Array) -> Array:
        return x.reshape(batch, stride, *x.shape[1:]).swapaxes(1, 2).reshape(batch, -1, *x.shape[2:])

    rows = jax.tree.map(regroup, rows)
    partial = (
        dense_attention(rows, mask_fn, sizes) if size is None else window_attention(rows, size, causal, mask_fn, sizes)
    )
    return take_first(jax.tree.map(restore, partial), tokens)
