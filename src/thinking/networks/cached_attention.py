"""Attention of new tokens over cached ones.

Axes: B rows, N new tokens, S slots, H query heads, G key-value heads, E dimensions of a head, K blocks of a `TopK`
pattern, P prefix caches.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.networks.attention.patterns import (
    Global,
    Pattern,
    Strided,
    TopK,
    Window,
    cache_bounds,
    is_visible,
    pattern_parts,
)
from thinking.networks.attention.top_k import choose_blocks
from thinking.networks.blocks import AttendFn
from thinking.types import Array


class LayerCache(NamedTuple):
    """The cache of one layer.

    Attributes:
        keys: [B, G, S, E]; heads before slots, which makes products over slots several times faster on a CPU.
        values: [B, G, S, E].
        key_sums: [B, G, K, E] float32, sum of each block's keys; K is 0 without `TopK`.
        query_sums: [B, G, K, E] float32, sum of each block's queries, over the heads that share keys.
    """

    keys: Array
    values: Array
    key_sums: Array
    query_sums: Array


LayerCacheView = tuple[LayerCache, Array]
"""A layer's cache, and the position of the token in each slot [B, S]."""


def make_attend_fn(
    pattern: Pattern,
    layer: LayerCache,
    before: Array,
    after: Array,
    slot: Array,
    positions: Array,
    prefix_view: LayerCacheView | None,
) -> AttendFn:
    """Attention of new tokens, written to `slot` [B, N].

    `before` and `after` [B, S] are the positions in the cache before and after they are written.
    """
    top_k = find_top_k(pattern)

    def attend(q: Array, k: Array, v: Array) -> tuple[Array, LayerCache]:
        new_layer = _write(top_k, layer, q, k, v, slot, positions)
        if top_k is not None and positions.shape[1] == 1 and _max_visible_keys(pattern) < after.shape[1]:
            return _attend_gathered(pattern, top_k, new_layer, q, positions, after), new_layer
        views = [(new_layer, after)]
        if positions.shape[1] > 1 and cache_bounds(pattern) is not None:
            # The first of several new tokens may see what the last one overwrites.
            newest = layer._replace(keys=k.swapaxes(1, 2), values=v.swapaxes(1, 2))
            views = [(layer, before), (newest, positions)]
        if prefix_view is not None:
            prefix_layer, prefix_positions = prefix_view
            views.insert(
                0, (prefix_layer, jnp.repeat(prefix_positions, len(positions) // len(prefix_positions), axis=0))
            )
        masks = [_mask(pattern, top_k, new_layer, positions, key_positions) for _, key_positions in views]
        return _attend(q, [layer for layer, _ in views], masks), new_layer

    return attend


def find_top_k(pattern: Pattern) -> TopK | None:
    """The part of a pattern that selects blocks by content, if any."""
    return next((part for part in pattern_parts(pattern) if isinstance(part, TopK)), None)


def _write(
    top_k: TopK | None, layer: LayerCache, q: Array, k: Array, v: Array, slot: Array, positions: Array
) -> LayerCache:
    rows = jnp.arange(len(slot))[:, None]
    keys = layer.keys.at[rows, :, slot].set(k.astype(layer.keys.dtype), mode="drop")
    values = layer.values.at[rows, :, slot].set(v.astype(layer.values.dtype), mode="drop")
    if top_k is None:
        return layer._replace(keys=keys, values=values)
    blocks = layer.key_sums.shape[2]
    block = jnp.where(positions >= 0, positions // top_k.block_size, blocks)
    query_sum = q.astype(jnp.float32).reshape(*k.shape[:3], -1, k.shape[3]).sum(3)
    key_sums = layer.key_sums.at[rows, :, block].add(k.astype(jnp.float32), mode="drop")
    query_sums = layer.query_sums.at[rows, :, block].add(query_sum, mode="drop")
    return LayerCache(keys, values, key_sums, query_sums)


def _mask(pattern: Pattern, top_k: TopK | None, layer: LayerCache, positions: Array, key_positions: Array) -> Array:
    """[B, 1 or G, N, S] bool, which of the tokens at `key_positions` [B, S] each new one sees."""
    query, key = positions[:, None, :, None], key_positions[:, None, None, :]
    visible = jnp.zeros((), bool)
    for part in pattern_parts(pattern):
        if part is not top_k:
            visible = visible | is_visible(part, query, key)
    if top_k is not None:
        index, is_selected = _choose_cached_blocks(top_k, layer, positions, key_positions)
        blocks = layer.key_sums.shape[2]
        chosen = jnp.any(jax.nn.one_hot(index, blocks, dtype=bool) & is_selected[..., None], axis=-2)
        visible = (
            visible | jnp.repeat(chosen, top_k.block_size, axis=-1)[..., : key_positions.shape[1]]
        )  # without a ring buffer, slot i holds token i
    return visible & (key >= 0) & (key <= query)


def _choose_cached_blocks(
    top_k: TopK, layer: LayerCache, positions: Array, key_positions: Array
) -> tuple[Array, Array]:
    """The blocks [B, G, N, k] that each new token selects, and whether each is one (bool)."""
    own = jnp.maximum(positions, 0) // top_k.block_size
    query_block = jnp.broadcast_to(
        jnp.maximum(own - 1, 0)[:, None, :, None], (*layer.keys.shape[:2], positions.shape[1], 1)
    )
    block_queries = jnp.take_along_axis(layer.query_sums, query_block, axis=2)
    start = top_k.block_size * jnp.arange(layer.key_sums.shape[2])[None]
    num_filled = jnp.clip(jnp.max(key_positions, axis=1, keepdims=True) + 1 - start, 0, top_k.block_size)
    means = layer.key_sums / jnp.maximum(num_filled, 1)[:, None, :, None]
    return choose_blocks(block_queries, means, num_filled > 0, own, top_k.num_blocks, causal=True)


def _max_visible_keys(pattern: Pattern) -> int:
    """An upper bound on the keys that one query sees."""
    reach = 0
    for part in pattern_parts(pattern):
        match part:
            case Window(size) | Strided(_, int() as size) | Global(size):
                reach += size
            case TopK(block, blocks):
                reach += block * blocks
            case _:
                return 2**31
    return reach


def _attend_gathered(
    pattern: Pattern, top_k: TopK, layer: LayerCache, q: Array, positions: Array, key_positions: Array
) -> Array:
    """Attention of one new token, which gathers only the keys that it sees."""
    index, is_selected = (part[:, :, 0] for part in _choose_cached_blocks(top_k, layer, positions, key_positions))
    rows, groups = index.shape[:2]
    newest = positions[:, :, None]
    tokens, allowed, earlier = [], [], []
    for part in [*(part for part in pattern_parts(pattern) if part is not top_k), top_k]:
        visible = jnp.ones((), bool)
        match part:
            case Window(size):
                token = newest - jnp.arange(size)[None, None]
            case Strided(stride, int() as size):
                token = newest - stride * jnp.arange(size)[None, None]
            case Global(count):
                token = jnp.arange(count)[None, None]
            case _:
                token = index[..., None] * top_k.block_size + jnp.arange(top_k.block_size)[None, None, None]
                visible = jnp.broadcast_to(is_selected[..., None], token.shape).reshape(rows, groups, -1)
                token = token.reshape(rows, groups, -1)
        visible &= (token >= 0) & (token <= newest)
        for other in earlier:
            visible &= ~is_visible(other, newest, token)  # a pair that several parts see counts once
        earlier.append(part)
        shape = rows, groups, token.shape[-1]
        tokens.append(jnp.broadcast_to(token, shape))
        allowed.append(jnp.broadcast_to(visible, shape))
    # Without a ring buffer, slot i holds token i.
    slot = jnp.clip(jnp.concatenate(tokens, axis=-1), 0, layer.keys.shape[2] - 1)[..., None]
    keys, values = (jnp.take_along_axis(array, slot, axis=2) for array in (layer.keys, layer.values))
    return _attend(q, [layer._replace(keys=keys, values=values)], [jnp.concatenate(allowed, axis=-1)[:, :, None]])


def _attend(q: Array, caches: list[LayerCache], masks: list[Array]) -> Array:
    """[B, N, H, E] one softmax over the keys of all caches; zeros for a query that sees nothing."""
    rows, num_new, heads, size = q.shape
    groups = caches[0].keys.shape[1]
    shared = heads // groups
    queries = q.reshape(rows, num_new, groups, shared, size).transpose(0, 2, 3, 1, 4).reshape(rows, groups, -1, size)

    def logits(layer: LayerCache, mask: Array) -> Array:
        grouped = _fold_rows_into_prefixes(queries, len(layer.keys))
        products = jnp.einsum("bgme,bgse->bgms", grouped, layer.keys, preferred_element_type=jnp.float32)
        repeated = jnp.tile(mask, (1, 1, shared, 1)) if shared > 1 else mask
        return jnp.where(repeated, _unfold_rows(products, rows) * size**-0.5, -jnp.inf)

    def weigh_values(layer: LayerCache, weight: Array) -> Array:
        weight = _fold_rows_into_prefixes(weight.astype(layer.values.dtype), len(layer.values))
        output = jnp.einsum("bgms,bgse->bgme", weight, layer.values, preferred_element_type=jnp.float32)
        return _unfold_rows(output, rows)

    scores = [logits(*pair) for pair in zip(caches, masks, strict=True)]
    peak = jnp.max(jnp.stack([jnp.max(score, axis=-1) for score in scores]), axis=0)[..., None]
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    weights = [jnp.exp(score - peak) for score in scores]
    total = sum(jnp.sum(weight, axis=-1, keepdims=True) for weight in weights)
    output = sum(weigh_values(*pair) for pair in zip(caches, weights, strict=True))
    output = output / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
    return output.reshape(rows, groups, shared, num_new, size).transpose(0, 3, 1, 2, 4).reshape(q.shape).astype(q.dtype)


def _fold_rows_into_prefixes(x: Array, num_prefixes: int) -> Array:
    """[B, G, M, E] as [P, G, B M / P, E], for M queries of each row.

    B / P consecutive rows share one prefix cache, so its keys are not copied.
    """
    if len(x) == num_prefixes:
        return x
    folded = x.reshape(num_prefixes, -1, *x.shape[1:]).swapaxes(1, 2)
    return folded.reshape(num_prefixes, x.shape[1], -1, x.shape[3])


def _unfold_rows(x: Array, num_rows: int) -> Array:
    """The inverse: [P, G, B M / P, E] as [B, G, M, E]."""
    if len(x) == num_rows:
        return x
    unfolded = x.reshape(*x.shape[:2], num_rows // len(x), -1, x.shape[3]).swapaxes(1, 2)
    return unfolded.reshape(num_rows, x.shape[1], -1, x.shape[3])
