"""The cache of a decoder: keys and values of attention, and the states of recurrences.

If the pattern has a bounded reach, the slots of keys are a ring buffer: a new token overwrites the one that no later
query sees, so memory is bounded at any length. Tokens at the start that all queries see are never overwritten. The
state of a recurrence has the same size at any length; without attention there are no slots.

Axes: B rows, N new tokens, S slots. All leaves of a cache have the leading axis B, so rows can be gathered, repeated
    and stored like any other batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.networks.attention.patterns import Pattern, cache_bounds
from thinking.networks.blocks import BlockConfig
from thinking.networks.cached_attention import LayerCache, find_top_k, make_attend_fn
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.types import Array, State


class Cache(NamedTuple):
    """The cache of B rows.

    Attributes:
        layers: of each layer, a `LayerCache`, or the state of a recurrence.
        positions: [B, S] int32, position of the token in each slot, -1 for none.
        length: [B] int32, tokens read so far.
    """

    layers: tuple[LayerCache | State, ...]
    positions: Array
    length: Array


def init_cache(pattern: Pattern, mixers: Sequence[Mixer], block: BlockConfig, rows: int, capacity: int) -> Cache:
    """An empty cache of rows of up to `capacity` tokens; fewer slots are allocated where the pattern allows."""
    slots = _count_slots(pattern, capacity) if any(mixer.init_state is None for mixer in mixers) else 0
    attention_layer = _init_layer(pattern, rows, slots, block)
    layers = tuple(attention_layer if mixer.init_state is None else mixer.init_state(block, rows) for mixer in mixers)
    return Cache(layers, jnp.full((rows, slots), -1, jnp.int32), jnp.zeros(rows, jnp.int32))


def _count_slots(pattern: Pattern, capacity: int) -> int:
    bounds = cache_bounds(pattern)
    return capacity if bounds is None else min(capacity, sum(bounds))


def _init_layer(pattern: Pattern, rows: int, slots: int, block: BlockConfig) -> LayerCache:
    heads, size = block.num_kv_heads or block.num_heads, block.width // block.num_heads
    empty = jnp.zeros((rows, heads, slots, size), block.dtype)
    sums = jnp.zeros((rows, heads, _count_blocks(pattern, slots), size), jnp.float32)
    return LayerCache(empty, empty, sums, sums)


def _count_blocks(pattern: Pattern, slots: int) -> int:
    top_k = find_top_k(pattern)
    return 0 if top_k is None else -(-slots // top_k.block_size)


def grow_cache(pattern: Pattern, cache: Cache, capacity: int) -> Cache:
    """The cache with capacity for longer rows; a ring buffer and a recurrence stay as they are."""
    if not any(isinstance(layer, LayerCache) for layer in cache.layers):
        return cache
    slots = _count_slots(pattern, capacity)

    def pad(leaf: Array, axis: int, size: int, blank: int = 0) -> Array:
        widths = [(0, size - leaf.shape[axis] if each == axis else 0) for each in range(leaf.ndim)]
        return jnp.pad(leaf, widths, constant_values=blank)

    def grow_layer(layer: LayerCache | State) -> LayerCache | State:
        if not isinstance(layer, LayerCache):
            return layer
        blocks = _count_blocks(pattern, slots)
        keys, values = pad(layer.keys, 2, slots), pad(layer.values, 2, slots)
        return LayerCache(keys, values, pad(layer.key_sums, 2, blocks), pad(layer.query_sums, 2, blocks))

    return Cache(tuple(map(grow_layer, cache.layers)), pad(cache.positions, 1, slots, -1), cache.length)


class Continuation(NamedTuple):
    """How a decoder continues from a cache.

    Attributes:
        positions: [B, N] int32, position of each new token in its row, -1 for none.
        mixer_inputs: of each layer: a function that attends to cached and new tokens and also returns the new
            `LayerCache`, or `RecurrentInputs`.
        finish: `finish(aux_outputs) -> Cache`, the cache after the new tokens, from what the mixers return.
    """

    positions: Array
    mixer_inputs: list[Any]
    finish: Callable[[Sequence[LayerCache | RecurrentOutput]], Cache]


def continue_cache(
    pattern: Pattern, cache: Cache, num_new_tokens: int, num_valid: Array | None, prefix_cache: Cache | None
) -> Continuation:
    """Assign slots to new tokens, and build the inputs of all mixers.

    Args:
        pattern: the attention pattern.
        cache: of B rows.
        num_new_tokens: N.
        num_valid: [B] int32, how many of the new tokens count; all by default.
        prefix_cache: a read-only cache of what precedes each row. If it has fewer rows, each serves equally many
            consecutive rows.
    """
    own_positions = _next_positions(cache, num_new_tokens, num_valid)
    slot = _assign_slots(pattern, cache, own_positions)
    prefix_length = 0 if prefix_cache is None else _repeat_rows(prefix_cache.length, len(own_positions))[:, None]
    positions = jnp.where(own_positions >= 0, own_positions + prefix_length, -1)
    after = cache.positions.at[jnp.arange(len(positions))[:, None], slot].set(positions, mode="drop")
    length = cache.length + jnp.sum(own_positions >= 0, axis=1, dtype=jnp.int32)

    def make_inputs(index: int, layer: LayerCache | State) -> Any:
        prefix_layer = None if prefix_cache is None else prefix_cache.layers[index]
        if isinstance(layer, LayerCache):
            prefix_view = None if prefix_cache is None else (prefix_layer, prefix_cache.positions)
            return make_attend_fn(pattern, layer, cache.positions, after, slot, positions, prefix_view)
        state = layer if prefix_cache is None else _start_from_prefix(layer, prefix_layer, cache.length)
        return RecurrentInputs(state, jnp.zeros_like(own_positions, bool), own_positions >= 0)

    def finish(aux_outputs: Sequence[LayerCache | RecurrentOutput]) -> Cache:
        layers = (aux if isinstance(aux, LayerCache) else aux.state for aux in aux_outputs)
        return Cache(tuple(layers), after, length)

    return Continuation(positions, [make_inputs(*pair) for pair in enumerate(cache.layers)], finish)


def _start_from_prefix(state: State, prefix_state: State, length: Array) -> State:
    """The states of rows; a row without a token of its own starts from the state of its prefix."""

    def start(own: Array, prefix: Array) -> Array:
        is_empty = (length == 0).reshape(-1, *[1] * (own.ndim - 1))
        return jnp.where(is_empty, _repeat_rows(prefix, len(own)), own)

    return jax.tree.map(start, state, prefix_state)


def _repeat_rows(leaf: Array, rows: int) -> Array:
    return jnp.repeat(leaf, rows // len(leaf), axis=0)


def _next_positions(cache: Cache, num_new_tokens: int, num_valid: Array | None) -> Array:
    """[B, N] int32 positions of the new tokens; -1 for those beyond the first `num_valid` [B]."""
    step = jnp.arange(num_new_tokens, dtype=jnp.int32)[None]
    number = cache.length[:, None] + step
    return number if num_valid is None else jnp.where(step < num_valid[:, None], number, -1)


def _assign_slots(pattern: Pattern, cache: Cache, positions: Array) -> Array:
    """[B, N] the slot of each new token; S (out of bounds) for one that is not kept."""
    slots = cache.positions.shape[1]
    slot, kept = positions, positions >= 0
    if (bounds := cache_bounds(pattern)) is not None and slots == sum(bounds):
        first, last = bounds
        slot = jnp.where(positions < first, positions, first + (positions - first) % last)
        kept &= (positions < first) | (positions > jnp.max(positions, axis=1, keepdims=True) - last)
    return jnp.where(kept, slot, slots)
