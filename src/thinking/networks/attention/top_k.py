"""Attention to the highest-scoring blocks of keys: see `thinking.networks.attention.patterns.TopK`.

Axes: B rows, G key-value heads, R query heads that share each, T tokens, E dimensions of a head, N blocks of tokens.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.partials import (
    QKV,
    BlockSizes,
    MaskFn,
    PartialSoftmax,
    TokenPositions,
    compute_step_size,
    map_in_steps,
    pad_rows,
    partial_softmax,
    take_first,
)
from thinking.types import Array


def choose_blocks(
    block_queries: Array, means: Array, is_filled: Array, own_block: Array, num_blocks: int, causal: bool
) -> tuple[Array, Array]:
    """The blocks with the highest products of block query and mean key; the own block is always one of them.

    Ties go to the earlier block. Scores are float32 and carry no gradient.

    Args:
        block_queries: [B, G, Q, E] the query of each block or token.
        means: [B, G, N, E] the mean key of each block.
        is_filled: [B or 1, N] bool, whether the block has a key.
        own_block: [B or 1, Q] int32, the block of each query.
        num_blocks: maximum number to choose.
        causal: whether later blocks are excluded.

    Returns:
        [B, G, Q, min(num_blocks, N)] int32 the blocks, and bool whether each counts; fewer do where fewer are visible.
    """
    block_queries, means = (jax.lax.stop_gradient(x).astype(jnp.float32) for x in (block_queries, means))
    # Full precision on any device, so that decoding selects what the whole row would.
    scores = jnp.einsum("bgqe,bgne->bgqn", block_queries, means, precision=jax.lax.Precision.HIGHEST)
    block, own_block = jnp.arange(means.shape[2])[None, None, None], own_block[:, None, :, None]
    candidate = is_filled[:, None, None] & ((block < own_block) if causal else (block != own_block))
    scores = jnp.where(block == own_block, jnp.inf, jnp.where(candidate, scores, -jnp.inf))
    best, index = jax.lax.top_k(scores, min(num_blocks, means.shape[2]))
    return index, best > -jnp.inf


def compute_block_queries(q: Array, valid: Array, block_size: int, causal: bool) -> Array:
    """[B, G, N, E] float32, the query of each block.

    It sums the valid queries of the previous block (zeros for the first), or without causality its own.

    Args:
        q: [B, T, G, R, E], T a multiple of the block size.
        valid: [B or 1, T] bool.
        block_size: tokens of a block.
        causal: whether the previous block is used.
    """
    sums = _block_sums(jnp.sum(q.astype(jnp.float32), axis=3).swapaxes(1, 2), valid, block_size)
    return jnp.pad(sums[:, :, :-1], [(0, 0), (0, 0), (1, 0), (0, 0)]) if causal else sums


def compute_block_means(k: Array, valid: Array, block_size: int) -> tuple[Array, Array]:
    """[B, G, N, E] float32, the mean valid key of each block, and [B or 1, N] bool, whether it has one.

    Args:
        k: [B, G, T, E], T a multiple of the block size.
        valid: [B or 1, T] bool.
        block_size: tokens of a block.
    """
    count = jnp.sum(valid.reshape(len(valid), -1, block_size), axis=-1)
    return _block_sums(k, valid, block_size) / jnp.maximum(count, 1)[:, None, :, None], count > 0


def top_k_attention(
    rows: QKV, block_size: int, num_blocks: int, causal: bool, mask_fn: MaskFn, sizes: BlockSizes
) -> PartialSoftmax:
    """Attention of blocks of queries to the blocks of keys that they select, under the mask."""
    tokens = rows.q.shape[1]
    step = compute_step_size(rows, block_size * num_blocks, block_size, sizes)
    rows = pad_rows(rows, step)
    valid = rows.tokens.segments > 0
    k, v = (x.swapaxes(1, 2) for x in (rows.k, rows.v))
    block_queries = compute_block_queries(rows.q, valid, block_size, causal)
    means, is_filled = compute_block_means(k, valid, block_size)
    k, v = (_split_blocks(x, block_size, 2) for x in (k, v))
    keys = jax.tree.map(lambda x: _per_head(_split_blocks(x, block_size, 1), block_queries), rows.tokens)

    def attend(start: Array, q: Array, queries: TokenPositions) -> PartialSoftmax:
        own = start // block_size + jnp.arange(step // block_size)
        step_queries = jax.lax.dynamic_slice_in_dim(block_queries, start // block_size, step // block_size, 2)
        # A block that does not count is later or empty, so the mask hides it.
        index, _ = choose_blocks(step_queries, means, is_filled, own[None], num_blocks, causal)
        queries = jax.tree.map(lambda x: x[:, None], queries)
        key_tokens = jax.tree.map(lambda x: _gather_blocks(x, index), keys)
        return partial_softmax(q, _gather_blocks(k, index), _gather_blocks(v, index), mask_fn(queries, key_tokens))

    return take_first(map_in_steps(attend, rows, step, block_size), tokens)


def _per_head(x: Array, like: Array) -> Array:
    """[B, G, N, block] of [B or 1, N, block]."""
    return jnp.broadcast_to(x[:, None], (*like.shape[:3], x.shape[-1]))


def _gather_blocks(x: Array, index: Array) -> Array:
    """[B, G, Q, K block, ...] the blocks [B, G, Q, K] of [B, G, N, block, ...]."""
    gathered = jax.vmap(jax.vmap(lambda blocks, chosen: blocks[chosen]))(x, index)
    return gathered.reshape(*index.shape[:3], -1, *x.shape[4:])


def _split_blocks(x: Array, block_size: int, axis: int) -> Array:
    return x.reshape(*x.shape[:axis], -1, block_size, *x.shape[axis + 1 :])


def _block_sums(x: Array, valid: Array, block_size: int) -> Array:
    masked = jnp.where(valid[:, None, :, None], x.astype(jnp.float32), 0)
    return jnp.sum(_split_blocks(masked, block_size, 2), axis=3)
