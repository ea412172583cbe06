"""Attention under a dense mask: the reference for the sparse forms, and the fastest for short rows.

Axes: B rows, T tokens, H query heads, G key-value heads, E dimensions of a head.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.patterns import Pattern, TopK, is_visible, pattern_parts
from thinking.networks.attention.top_k import choose_blocks, compute_block_means, compute_block_queries
from thinking.types import Array


def dense_mask(pattern: Pattern, q: Array, k: Array, causal: bool, segments: Array | None) -> Array:
    """[B or 1, G or 1, T, T] bool, which keys (last axis) each query sees.

    `q` [B, T, H, E] and `k` [B, T, G, E] are read by `TopK` alone; `segments` are [B, T] int32, or None for whole rows.
    """
    tokens = q.shape[1]
    positions = jnp.arange(tokens)
    query, key = positions[:, None], positions[None]
    mask = jnp.zeros((1, 1, 1, 1), bool)
    for part in pattern_parts(pattern):
        if isinstance(part, TopK):
            mask = mask | _chosen_block_mask(part, q, k, causal, segments)
        else:
            mask = mask | is_visible(part, query, key)[None, None]
    if causal:
        mask = mask & (key <= query)[None, None]
    if segments is not None:
        same = (segments[:, :, None] == segments[:, None]) & (segments[:, None] > 0)
        mask = mask & same[:, None]
    return mask


def masked_attention(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """Scaled dot-product attention [B, T, H, E] under a mask; zeros for a query that sees nothing.

    Args:
        q: [B, T, H, E].
        k: [B, T, G, E], as is `v`; query head h reads key head h // (H // G).
        v: the values.
        mask: [B or 1, G or 1, T, T] bool.
    """
    shared = q.shape[2] // k.shape[2]
    if shared > 1:
        k, v = jnp.repeat(k, shared, axis=2), jnp.repeat(v, shared, axis=2)
        mask = jnp.repeat(mask, shared, axis=1) if mask.shape[1] > 1 else mask
    logits = jnp.einsum("bqhe,bkhe->bhqk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(logits.dtype).min), axis=-1)
    weights = jnp.where(mask, weights, 0).astype(v.dtype)
    return jnp.einsum("bhqk,bkhe->bqhe", weights, v, preferred_element_type=jnp.float32).astype(q.dtype)


def _chosen_block_mask(part: TopK, q: Array, k: Array, causal: bool, segments: Array | None) -> Array:
    """[B, G, T, T] bool, which keys are in blocks that the query's block selected."""
    tokens = q.shape[1]
    after = [(0, 0), (0, -tokens % part.block_size), (0, 0), (0, 0)]
    q, k = jnp.pad(q, after), jnp.pad(k, after)
    valid = jnp.ones((1, tokens), bool) if segments is None else segments > 0
    valid = jnp.pad(valid, after[:2])
    block_queries = compute_block_queries(q.reshape(*k.shape[:3], -1, k.shape[3]), valid, part.block_size, causal)
    means, is_filled = compute_block_means(k.swapaxes(1, 2), valid, part.block_size)
    count = means.shape[2]
    index, counts = choose_blocks(block_queries, means, is_filled, jnp.arange(count)[None], part.num_blocks, causal)
    chosen = jnp.any(jax.nn.one_hot(index, count, dtype=bool) & counts[..., None], axis=-2)
    return jnp.repeat(jnp.repeat(chosen, part.block_size, axis=2), part.block_size, axis=3)[:, :, :tokens, :tokens]
