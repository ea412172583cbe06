"""Attention to the blocks of keys that look most useful: see `thinking.networks.attention.patterns.TopK`.

Axes: B rows, G heads of keys, R query heads that share each, T tokens, E dimensions of a head, N blocks of tokens.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.partials import (
    Allowed,
    Partial,
    Rows,
    Sizes,
    Tokens,
    first,
    in_steps,
    padded,
    step_size,
    weigh,
)
from thinking.types import Array


def choose_blocks(
    judges: Array, means: Array, filled: Array, own: Array, blocks: int, causal: bool
) -> tuple[Array, Array]:
    """The blocks of the highest products of judge and mean key; the own block is always one of them.

    Of equal blocks the earlier is taken. The choice is made in float32, and no gradient flows through it.

    Args:
        judges: [B, G, Q, E] what each asks with: a block of queries, or a token.
        means: [B, G, N, E] the mean key of each block.
        filled: [B or 1, N] bool, whether there is a key in the block.
        own: [B or 1, Q] int32, the block in which each stands.
        blocks: how many to choose at most.
        causal: whether only earlier blocks are chosen beside the own one.

    Returns:
        [B, G, Q, min(blocks, N)] int32 the blocks, and bool whether each counts: fewer do where fewer can be seen.
    """
    judges, means = (jax.lax.stop_gradient(x).astype(jnp.float32) for x in (judges, means))
    # In full precision on any device, so that a token picks what its whole row would.
    scores = jnp.einsum("bgqe,bgne->bgqn", judges, means, precision=jax.lax.Precision.HIGHEST)
    block, own = jnp.arange(means.shape[2])[None, None, None], own[:, None, :, None]
    candidate = filled[:, None, None] & ((block < own) if causal else (block != own))
    scores = jnp.where(block == own, jnp.inf, jnp.where(candidate, scores, -jnp.inf))
    best, index = jax.lax.top_k(scores, min(blocks, means.shape[2]))
    return index, best > -jnp.inf


def judges_of(q: Array, valid: Array, block: int, causal: bool) -> Array:
    """What judges for each block of queries: the sum of the valid queries of the block before, or of its own.

    Args:
        q: [B, T, G, R, E], T a multiple of the block.
        valid: [B or 1, T] bool.
        block: tokens of a block.
        causal: whether the block before judges; nothing judges for the first.

    Returns:
        [B, G, N, E] float32.
    """
    sums = _sums(jnp.sum(q.astype(jnp.float32), axis=3).swapaxes(1, 2), valid, block)
    return jnp.pad(sums[:, :, :-1], [(0, 0), (0, 0), (1, 0), (0, 0)]) if causal else sums


def means_of(k: Array, valid: Array, block: int) -> tuple[Array, Array]:
    """The mean valid key of each block.

    Args:
        k: [B, G, T, E], T a multiple of the block.
        valid: [B or 1, T] bool.
        block: tokens of a block.

    Returns:
        [B, G, N, E] float32, and [B or 1, N] bool whether there is one.
    """
    count = jnp.sum(valid.reshape(len(valid), -1, block), axis=-1)
    return _sums(k, valid, block) / jnp.maximum(count, 1)[:, None, :, None], count > 0


def top_k(rows: Rows, block: int, blocks: int, causal: bool, allowed: Allowed, sizes: Sizes) -> Partial:
    """Blocks of queries look at the blocks of keys that they choose, as far as they are allowed."""
    tokens = rows.q.shape[1]
    step = step_size(rows, block * blocks, block, sizes)
    rows = padded(rows, step)
    valid = rows.tokens.segment > 0
    k, v = (x.swapaxes(1, 2) for x in (rows.k, rows.v))
    judges = judges_of(rows.q, valid, block, causal)
    means, filled = means_of(k, valid, block)
    k, v = (_blocks(x, block, 2) for x in (k, v))
    keys = jax.tree.map(lambda x: _per_head(_blocks(x, block, 1), judges), rows.tokens)

    def look(start: Array, q: Array, queries: Tokens) -> Partial:
        own = start // block + jnp.arange(step // block)
        asking = jax.lax.dynamic_slice_in_dim(judges, start // block, step // block, 2)
        # A block that does not count holds nothing that is allowed: it is later, or empty.
        index, _ = choose_blocks(asking, means, filled, own[None], blocks, causal)
        queries = jax.tree.map(lambda x: x[:, None], queries)
        asked = jax.tree.map(lambda x: _picked(x, index), keys)
        return weigh(q, _picked(k, index), _picked(v, index), allowed(queries, asked))

    return first(in_steps(look, rows, step, block), tokens)


def _per_head(x: Array, like: Array) -> Array:
    """[B, G, N, block] of [B or 1, N, block]."""
    return jnp.broadcast_to(x[:, None], (*like.shape[:3], x.shape[-1]))


def _picked(x: Array, index: Array) -> Array:
    """[B, G, Q, K block, ...] the blocks [B, G, Q, K] of [B, G, N, block, ...]."""
    found = jax.vmap(jax.vmap(lambda blocks, chosen: blocks[chosen]))(x, index)
    return found.reshape(*index.shape[:3], -1, *x.shape[4:])


def _blocks(x: Array, block: int, axis: int) -> Array:
    return x.reshape(*x.shape[:axis], -1, block, *x.shape[axis + 1 :])


def _sums(x: Array, valid: Array, block: int) -> Array:
    real = jnp.where(valid[:, None, :, None], x.astype(jnp.float32), 0)
    return jnp.sum(_blocks(real, block, 2), axis=3)
