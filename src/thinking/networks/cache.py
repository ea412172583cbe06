"""What a decoder remembers of a row: keys and values, in slots.

Where the pattern looks back only so far, the slots are a ring: a new token takes the place of the one that no query
will see again, and memory stays bounded at any length. Tokens at the start that all may see are never overwritten.

Axes: B rows, N new tokens, S slots, H heads, G heads of keys, E dimensions of a head, K blocks of a content pattern.
All leaves of a cache have the leading axis B, so rows can be gathered, repeated and stored like any other batch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.networks.attention.patterns import (
    Global,
    Pattern,
    Strided,
    TopK,
    Window,
    is_visible,
    memory_bounds,
    pattern_parts,
)
from thinking.networks.attention.top_k import choose_blocks
from thinking.networks.blocks import AttendFn
from thinking.types import Array


class LayerCache(NamedTuple):
    """What one layer remembers.

    Attributes:
        keys: [B, G, S, E]; heads before slots, as a product over slots is then several times faster on a CPU.
        values: [B, G, S, E].
        key_sums: [B, G, K, E] float32, of the keys of each block; K is 0 unless the pattern goes by content.
        query_sums: [B, G, K, E] float32, of the queries of each block, over the heads that share keys.
    """

    keys: Array
    values: Array
    key_sums: Array
    query_sums: Array


LayerMemory = tuple[LayerCache, Array]
"""What one layer remembers, and which token stands in each slot [B, S]."""


class Cache(NamedTuple):
    """What a decoder remembers of B rows.

    Attributes:
        layers: of each layer.
        positions: [B, S] int32, which token of the row stands in each slot, -1 for none.
        length: [B] int32, tokens read up to now.
    """

    layers: tuple[LayerCache, ...]
    positions: Array
    length: Array


def init_cache(
    pattern: Pattern, rows: int, capacity: int, num_layers: int, num_kv_heads: int, head_dim: int, dtype: jnp.dtype
) -> Cache:
    """A cache of rows of which nothing is read yet.

    Args:
        pattern: what queries see.
        rows: B.
        capacity: tokens that a row may come to; fewer slots are taken where the pattern allows.
        num_layers: of the decoder.
        num_kv_heads: G.
        head_dim: E.
        dtype: of keys and values.
    """
    bounds = memory_bounds(pattern)
    slots = capacity if bounds is None else min(capacity, sum(bounds))
    content = _content(pattern)
    blocks = 0 if content is None else -(-slots // content.block)
    kept = jnp.zeros((rows, num_kv_heads, slots, head_dim), dtype)
    sums = jnp.zeros((rows, num_kv_heads, blocks, head_dim), jnp.float32)
    layer = LayerCache(kept, kept, sums, sums)
    return Cache((layer,) * num_layers, jnp.full((rows, slots), -1, jnp.int32), jnp.zeros(rows, jnp.int32))


def grow_cache(pattern: Pattern, cache: Cache, capacity: int) -> Cache:
    """The cache with room for rows of so many tokens; one that is a ring stays as it is."""
    wanted = jax.eval_shape(lambda: _like(pattern, cache, capacity))

    def pad(leaf: Array, shape: jax.ShapeDtypeStruct, blank: int) -> Array:
        behind = [(0, after - before) for before, after in zip(leaf.shape, shape.shape, strict=True)]
        return jnp.pad(leaf, behind, constant_values=blank)

    layers = jax.tree.map(lambda leaf, shape: pad(leaf, shape, 0), cache.layers, wanted.layers)
    return Cache(layers, pad(cache.positions, wanted.positions, -1), cache.length)


def _like(pattern: Pattern, cache: Cache, capacity: int) -> Cache:
    keys = cache.layers[0].keys
    return init_cache(pattern, len(keys), capacity, len(cache.layers), keys.shape[1], keys.shape[3], keys.dtype)


class Continuation(NamedTuple):
    """How a decoder goes on from a cache.

    Attributes:
        positions: [B, N] int32, which token of its row each new one is, -1 for none.
        attend_fns: of each layer, how new tokens attend to what it remembers and to each other; hands on the new layer.
        finish: `finish(layers) -> Cache`, the cache after the new tokens.
    """

    positions: Array
    attend_fns: list[AttendFn]
    finish: Callable[[Sequence[LayerCache]], Cache]


def continue_cache(
    pattern: Pattern, cache: Cache, num_new_tokens: int, num_valid: Array | None, prefix_cache: Cache | None
) -> Continuation:
    """Make room for new tokens, and say how they attend.

    Args:
        pattern: what queries see.
        cache: of B rows.
        num_new_tokens: N, new tokens of each row.
        num_valid: [B] int32, how many of them count, or None if all do.
        prefix_cache: what comes before the cache, and is only read. Its rows may be fewer: each is then the trunk of so many
            rows, side by side.
    """
    number = _next_positions(cache, num_new_tokens, num_valid)
    slot = _assign_slots(pattern, cache, number)
    base = (
        0 if prefix_cache is None else jnp.repeat(prefix_cache.length, len(number) // len(prefix_cache.length))[:, None]
    )
    when = jnp.where(number >= 0, number + base, -1)
    after = cache.positions.at[jnp.arange(len(when))[:, None], slot].set(when, mode="drop")
    length = cache.length + jnp.sum(number >= 0, axis=1, dtype=jnp.int32)
    trunks = (
        [None] * len(cache.layers)
        if prefix_cache is None
        else [(layer, prefix_cache.positions) for layer in prefix_cache.layers]
    )
    attends = [
        _make_attend_fn(pattern, layer, cache.positions, after, slot, when, below)
        for layer, below in zip(cache.layers, trunks, strict=True)
    ]
    return Continuation(when, attends, lambda layers: Cache(tuple(layers), after, length))


def _next_positions(cache: Cache, num_new_tokens: int, num_valid: Array | None) -> Array:
    """[B, N] int32 numbers of the next `num_new_tokens` tokens of each row; -1 for those beyond the first `num_valid` [B]."""
    step = jnp.arange(num_new_tokens, dtype=jnp.int32)[None]
    number = cache.length[:, None] + step
    return number if num_valid is None else jnp.where(step < num_valid[:, None], number, -1)


def _assign_slots(pattern: Pattern, cache: Cache, positions: Array) -> Array:
    """[B, N] the slot that each new token goes to; S, which is none, for one that is not kept."""
    slots = cache.positions.shape[1]
    slot, kept = positions, positions >= 0
    if (bounds := memory_bounds(pattern)) is not None and slots == sum(bounds):
        first, last = bounds
        slot = jnp.where(positions < first, positions, first + (positions - first) % last)
        kept &= (positions < first) | (positions > jnp.max(positions, axis=1, keepdims=True) - last)
    return jnp.where(kept, slot, slots)


def _make_attend_fn(
    pattern: Pattern,
    layer: LayerCache,
    before: Array,
    after: Array,
    slot: Array,
    positions: Array,
    prefix_memory: LayerMemory | None,
) -> AttendFn:
    """How new tokens, which go to slots [B, N], attend to a layer whose slots held `before` and hold `after` [B, S]."""
    content = _content(pattern)

    def attend(q: Array, k: Array, v: Array) -> tuple[Array, LayerCache]:
        written = _write(content, layer, q, k, v, slot, positions)
        if content is not None and positions.shape[1] == 1 and _max_visible_keys(pattern) < after.shape[1]:
            return _mix_gathered(pattern, content, written, q, positions, after), written
        memories = [(written, after)]
        if positions.shape[1] > 1 and memory_bounds(pattern) is not None:
            # The first of many new tokens may need what the last of them overwrites.
            newest = layer._replace(keys=k.swapaxes(1, 2), values=v.swapaxes(1, 2))
            memories = [(layer, before), (newest, positions)]
        if prefix_memory is not None:
            below, stood = prefix_memory
            memories.insert(0, (below, jnp.repeat(stood, len(positions) // len(stood), axis=0)))
        masks = [_mask(pattern, content, written, positions, other) for _, other in memories]
        return _mix(q, [part for part, _ in memories], masks), written

    return attend


def _content(pattern: Pattern) -> TopK | None:
    return next((part for part in pattern_parts(pattern) if isinstance(part, TopK)), None)


def _write(
    content: TopK | None, layer: LayerCache, q: Array, k: Array, v: Array, slot: Array, positions: Array
) -> LayerCache:
    rows = jnp.arange(len(slot))[:, None]
    keys = layer.keys.at[rows, :, slot].set(k.astype(layer.keys.dtype), mode="drop")
    values = layer.values.at[rows, :, slot].set(v.astype(layer.values.dtype), mode="drop")
    if content is None:
        return layer._replace(keys=keys, values=values)
    blocks = layer.key_sums.shape[2]
    block = jnp.where(positions >= 0, positions // content.block, blocks)
    asked = q.astype(jnp.float32).reshape(*k.shape[:3], -1, k.shape[3]).sum(3)
    key_sums = layer.key_sums.at[rows, :, block].add(k.astype(jnp.float32), mode="drop")
    query_sums = layer.query_sums.at[rows, :, block].add(asked, mode="drop")
    return LayerCache(keys, values, key_sums, query_sums)


def _mask(pattern: Pattern, content: TopK | None, layer: LayerCache, positions: Array, key_positions: Array) -> Array:
    """[B, 1 or G, N, S] bool, which of the tokens `key_positions` [B, S] each new one sees."""
    query, key = positions[:, None, :, None], key_positions[:, None, None, :]
    found = jnp.zeros((), bool)
    for part in pattern_parts(pattern):
        if part is not content:
            found = found | is_visible(part, query, key)
    if content is not None:
        index, kept = _choose_cached_blocks(content, layer, positions, key_positions)
        blocks = layer.key_sums.shape[2]
        picked = jnp.any(jax.nn.one_hot(index, blocks, dtype=bool) & kept[..., None], axis=-2)
        found = found | jnp.repeat(picked, content.block, axis=-1)[..., : key_positions.shape[1]]  # a slot is its token
    return found & (key >= 0) & (key <= query)


def _choose_cached_blocks(
    content: TopK, layer: LayerCache, positions: Array, key_positions: Array
) -> tuple[Array, Array]:
    """The blocks [B, G, N, k] that each new token picks, and whether they count."""
    own = jnp.maximum(positions, 0) // content.block
    judged_by = jnp.broadcast_to(
        jnp.maximum(own - 1, 0)[:, None, :, None], (*layer.keys.shape[:2], positions.shape[1], 1)
    )
    judges = jnp.take_along_axis(layer.query_sums, judged_by, axis=2)
    start = content.block * jnp.arange(layer.key_sums.shape[2])[None]
    filled = jnp.clip(jnp.max(key_positions, axis=1, keepdims=True) + 1 - start, 0, content.block)
    means = layer.key_sums / jnp.maximum(filled, 1)[:, None, :, None]
    return choose_blocks(judges, means, filled > 0, own, content.blocks, causal=True)


def _max_visible_keys(pattern: Pattern) -> int:
    """How many keys one query can see, at most, counted part by part."""
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


def _mix_gathered(
    pattern: Pattern, content: TopK, layer: LayerCache, q: Array, positions: Array, key_positions: Array
) -> Array:
    """What one new token gathers from the keys that it sees; no others are looked at."""
    index, kept = (part[:, :, 0] for part in _choose_cached_blocks(content, layer, positions, key_positions))
    rows, groups = index.shape[:2]
    newest = positions[:, :, None]
    tokens, allowed, earlier = [], [], []
    for part in [*(part for part in pattern_parts(pattern) if part is not content), content]:
        fine = jnp.ones((), bool)
        match part:
            case Window(size):
                token = newest - jnp.arange(size)[None, None]
            case Strided(stride, int() as size):
                token = newest - stride * jnp.arange(size)[None, None]
            case Global(count):
                token = jnp.arange(count)[None, None]
            case _:
                token = index[..., None] * content.block + jnp.arange(content.block)[None, None, None]
                fine = jnp.broadcast_to(kept[..., None], token.shape).reshape(rows, groups, -1)
                token = token.reshape(rows, groups, -1)
        fine &= (token >= 0) & (token <= newest)
        for other in earlier:
            fine &= ~is_visible(other, newest, token)  # a pair that several parts see counts once
        earlier.append(part)
        shape = rows, groups, token.shape[-1]
        tokens.append(jnp.broadcast_to(token, shape))
        allowed.append(jnp.broadcast_to(fine, shape))
    slot = jnp.clip(jnp.concatenate(tokens, axis=-1), 0, layer.keys.shape[2] - 1)[..., None]  # a slot is its token
    keys, values = (jnp.take_along_axis(kept, slot, axis=2) for kept in (layer.keys, layer.values))
    return _mix(q, [layer._replace(keys=keys, values=values)], [jnp.concatenate(allowed, axis=-1)[:, :, None]])


def _mix(q: Array, memories: list[LayerCache], masks: list[Array]) -> Array:
    """[B, N, H, E] softmax over all memories at once; zeros for a query that sees nothing."""
    rows, new, heads, size = q.shape
    groups = memories[0].keys.shape[1]
    shared = heads // groups
    queries = q.reshape(rows, new, groups, shared, size).transpose(0, 2, 3, 1, 4).reshape(rows, groups, -1, size)

    def logits(layer: LayerCache, mask: Array) -> Array:
        asked = _merge_branches(queries, len(layer.keys))
        products = jnp.einsum("bgme,bgse->bgms", asked, layer.keys, preferred_element_type=jnp.float32)
        repeated = jnp.tile(mask, (1, 1, shared, 1)) if shared > 1 else mask
        return jnp.where(repeated, _split_branches(products, rows) * size**-0.5, -jnp.inf)

    def gather(layer: LayerCache, weight: Array) -> Array:
        weight = _merge_branches(weight.astype(layer.values.dtype), len(layer.values))
        mixed = jnp.einsum("bgms,bgse->bgme", weight, layer.values, preferred_element_type=jnp.float32)
        return _split_branches(mixed, rows)

    scores = [logits(*pair) for pair in zip(memories, masks, strict=True)]
    peak = jnp.max(jnp.stack([jnp.max(score, axis=-1) for score in scores]), axis=0)[..., None]
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    weights = [jnp.exp(score - peak) for score in scores]
    total = sum(jnp.sum(weight, axis=-1, keepdims=True) for weight in weights)
    mixed = sum(gather(*pair) for pair in zip(memories, weights, strict=True))
    mixed = mixed / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)
    return mixed.reshape(rows, groups, shared, new, size).transpose(0, 3, 1, 2, 4).reshape(q.shape).astype(q.dtype)


def _merge_branches(x: Array, rows: int) -> Array:
    """[B, G, M, E] as [rows, G, B / rows M, E]: branches of one trunk ask it together, so that nothing is copied."""
    if len(x) == rows:
        return x
    return x.reshape(rows, -1, *x.shape[1:]).swapaxes(1, 2).reshape(rows, x.shape[1], -1, x.shape[3])


def _split_branches(x: Array, rows: int) -> Array:
    """The reverse: [rows' own B, G, ...] as [rows, G, ...]."""
    if len(x) == rows:
        return x
    branches = rows // len(x)
    return x.reshape(*x.shape[:2], branches, -1, x.shape[3]).swapaxes(1, 2).reshape(rows, x.shape[1], -1, x.shape[3])
