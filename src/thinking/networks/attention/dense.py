"""Dense attention, and attention to and from the first positions of a row.

Axes: B rows, G key-value heads, R query heads that share each, T tokens, E dimensions of a head.
"""

import jax

from thinking.networks.attention.partials import (
    QKV,
    BlockSizes,
    MaskFn,
    PartialSoftmax,
    TokenPositions,
    compute_step_size,
    map_in_steps,
    merge,
    pad_rows,
    partial_softmax,
    take_first,
)
from thinking.types import Array


def dense_attention(rows: QKV, mask_fn: MaskFn, sizes: BlockSizes) -> PartialSoftmax:
    """Attention of all queries to all keys, in steps."""
    return _attend(rows, rows, mask_fn, sizes)


def attend_first_tokens(rows: QKV, count: int, causal: bool, mask_fn: MaskFn, sizes: BlockSizes) -> PartialSoftmax:
    """Attention of all queries to the first keys, and without causality of the first queries to all keys."""
    to_first = _attend(rows, _slice_rows(rows, 0, count), mask_fn, sizes)
    if causal:
        return to_first
    to_rest = _attend(_slice_rows(rows, 0, count), _slice_rows(rows, count, None), mask_fn, sizes)
    first_queries = merge([take_first(to_first, count), to_rest])
    return jax.tree.map(lambda all_, some: all_.at[:, :count].set(some), to_first, first_queries)


def _attend(query_rows: QKV, key_rows: QKV, mask_fn: MaskFn, sizes: BlockSizes) -> PartialSoftmax:
    """Attention of the queries of some rows to the keys of others."""
    tokens = query_rows.q.shape[1]
    k, v = (x.swapaxes(1, 2)[:, :, None] for x in (key_rows.k, key_rows.v))
    step = compute_step_size(query_rows, key_rows.k.shape[1], min(sizes.chunk_size, tokens), sizes)

    def attend(start: Array, q: Array, queries: TokenPositions) -> PartialSoftmax:
        del start
        mask = mask_fn(queries, jax.tree.map(lambda x: x[:, None], key_rows.tokens))[:, None]
        return partial_softmax(q, k, v, mask)

    return take_first(map_in_steps(attend, pad_rows(query_rows, step), step, step), tokens)


def _slice_rows(rows: QKV, start: int, stop: int | None) -> QKV:
    return jax.tree.map(lambda x: x[:, start:stop], rows)
