"""Attention to the blocks of keys that look most useful: see `thinking.networks.attention.patterns.TopK`.

Axes: B rows, G heads of keys, R query heads that share each, T tokens, E dimensions of a head, N blocks of tokens.
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
    pad_rows,
    take_first,
    weigh,
)
from thinking.types import Array


def choose_blocks(
    block_queries: Array, means: Array, is_filled: Array, own_block: Array, num_blocks: int, causal: bool
) -> tuple[Array, Array]:
    """The blocks of the highest products of judge and mean key; the own block is always one of them.

    Of equal blocks the earlier is taken. The choice is made in float32, and no gradient flows through it.

    Args:
        block_queries: [B, G, Q, E] what each asks with: a block of queries, or a token.
        means: [B, G, N, E] the mean key of each block.
        is_filled: [B or 1, N] bool, whether there is a key in the block.
        own_block: [B or 1, Q] int32, the block in which each stands.
        num_blocks: how many to choose at most.
        causal: whether only earlier blocks are chosen beside the own one.

    Returns:
        [B, G, Q, min(blocks, N)] int32 the blocks, and bool whether each counts: fewer do where fewer can be seen.
    """
    block_queries, means = (jax.lax.stop_gradient(x).astype(jnp.float32) for x in (block_queries, means))
    # In full precision on any device, so that a token picks what its whole row would.
    scores = jnp.einsum("bgqe,bgne->bgqn", block_queries, means, precision=jax.lax.Precision.HIGHEST)
    block, own_block = jnp.arange(means.shape[2])[None, None, None], own_block[:, None, :, None]
    candidate = is_filled[:, None, None] & ((block < own_block) if causal else (block != own_block))
    scores = jnp.where(block == own_block, jnp.inf, jnp.where(candidate, scores, -jnp.inf))
    best, index = jax.lax.top_k(scores, min(num_blocks, means.shape[2]))
    return index, best > -jnp.inf


def select_block_queries(q: Array, valid: Array, block_size: int, causal: bool) -> Array:
    """What judges for each block of queries: the sum of the valid queries of the block before, or of its own.

    Args:
        q: [B, T, G, R, E], T a multiple of the block.
        valid: [B or 1, T] bool.
        block_size: tokens of a block.
        causal: whether the block before judges; nothing judges for the first.

    Returns:
        [B, G, N, E] float32.
    """
    sums = _block_sums(jnp.sum(q.astype(jnp.float32), axis=3).swapaxes(1, 2), valid, block_size)
    return jnp.pad(sums[:, :, :-1], [(0, 0), (0, 0), (1, 0), (0, 0)]) if causal else sums


def compute_block_means(k: Array, valid: Array, block_size: int) -> tuple[Array, Array]:
    """The mean valid key of each block.

    Args:
        k: [B, G, T, E], T a multiple of the block.
        valid: [B or 1, T] bool.
        block_size: tokens of a block.

    Returns:
        [B, G, N, E] float32, and [B or 1, N] bool whether there is one.
    """
    count = jnp.sum(valid.reshape(len(valid), -1, block_size), axis=-1)
    return _block_sums(k, valid, block_size) / jnp.maximum(count, 1)[:, None, :, None], count > 0


def top_k(rows: Rows, block_size: int, num_blocks: int, causal: bool, mask_fn: MaskFn, sizes: Sizes) -> Partial:
    """Blocks of queries look at the blocks of keys that they choose, as far as they are allowed."""
    tokens = rows.q.shape[1]
    step = compute_step_size(rows, block_size * num_blocks, block_size, sizes)
    rows = pad_rows(rows, step)
    valid = rows.tokens.segments > 0
    k, v = (x.swapaxes(1, 2) for x in (rows.k, rows.v))
    judges = select_block_queries(rows.q, valid, block_size, causal)
    means, filled = compute_block_means(k, valid, block_size)
    k, v = (_split_blocks(x, block_size, 2) for x in (k, v))
    keys = jax.tree.map(lambda x: _per_head(_split_blocks(x, block_size, 1), judges), rows.tokens)

    def look(start: Array, q: Array, queries: Tokens) -> Partial:
        own = start // block_size + jnp.arange(step // block_size)
        asking = jax.lax.dynamic_slice_in_dim(judges, start // block_size, step // block_size, 2)
        # A block that does not count holds nothing that is allowed: it is later, or empty.
        index, _ = choose_blocks(asking, means, filled, own[None], num_blocks, causal)
        queries = jax.tree.map(lambda x: x[:, None], queries)
        asked = jax.tree.map(lambda x: _gather_blocks(x, index), keys)
        return weigh(q, _gather_blocks(k, index), _gather_blocks(v, index), mask_fn(queries, asked))

    return take_first(map_in_steps(look, rows, step, block_size), tokens)


def _per_head(x: Array, like: Array) -> Array:
    """[B, G, N, block] of [B or 1, N, block]."""
    return jnp.broadcast_to(x[:, None], (*like.shape[:3], x.shape[-1]))


def _gather_blocks(x: Array, index: Array) -> Array:
    """[B, G, Q, K block, ...] the blocks [B, G, Q, K] of [B, G, N, block, ...]."""
    found = jax.vmap(jax.vmap(lambda blocks, chosen: blocks[chosen]))(x, index)
    return found.reshape(*index.shape[:3], -1, *x.shape[4:])


def _split_blocks(x: Array, block_size: int, axis: int) -> Array:
    return x.reshape(*x.shape[:axis], -1, block_size, *x.shape[axis + 1 :])


def _block_sums(x: Array, valid: Array, block_size: int) -> Array:
    real = jnp.where(valid[:, None, :, None], x.astype(jnp.float32), 0)
    return jnp.sum(_split_blocks(real, block_size, 2), axis=3)
