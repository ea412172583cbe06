"""An external memory that is written and read by content.

Each head has slots with a key, a value and a usage. A token writes to the slot whose key is most like its own, or to
the least recently used one, as a gate decides (Neural Turing Machine, Graves et al. 2014; least recently used access,
Santoro et al. 2016). It then reads a mean of the values, weighted by cosine similarity. A trace shows which slots each
token read and wrote.

Axes: B rows, C tokens, D width, H heads, S slots, E dimensions of a head.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.types import Array

_USAGE_DECAY = 0.95
_EPSILON = 1e-6


class MemoryState(NamedTuple):
    """The memory.

    Attributes:
        keys: [B, H, E, S], the slots last, as what is summed over a vector's entries is fast then.
        values: [B, H, E, S].
        usage: [B, H, S], how much each slot was read and written recently.
    """

    keys: Array
    values: Array
    usage: Array


class MemoryTrace(NamedTuple):
    """What each token did.

    Attributes:
        reads: [B, C, H, S], weights that sum to 1.
        writes: [B, C, H, S], weights that sum to at most 1.
    """

    reads: Array
    writes: Array


def memory(num_slots: int = 16) -> Mixer:
    """An external memory; its state is a `MemoryState`.

    Args:
        num_slots: S, of each head.

    Raises:
        ValueError: if it is below 1.
    """
    if num_slots < 1:
        raise ValueError(f"memory: num_slots {num_slots} is out of range; give at least 1")

    def init_state(config: BlockConfig, rows: int) -> MemoryState:
        empty = jnp.zeros((rows, config.num_heads, config.width // config.num_heads, num_slots), jnp.float32)
        usage = jnp.broadcast_to(_initial_usage(num_slots), (rows, config.num_heads, num_slots))
        return MemoryState(empty, empty, usage)

    return Mixer("memory", lambda config, rngs: _Memory(config, rngs), init_state)


def _initial_usage(num_slots: int) -> Array:
    """[1, 1, S]: slots differ a little, so that writes take one after another."""
    return -1e-3 * jnp.arange(num_slots, dtype=jnp.float32)[None, None]


class _Token(NamedTuple):
    """What a token asks of the memory: keys and values [B, H, E], gates [B, H], flags [B]."""

    write_key: Array
    read_key: Array
    value: Array
    write_gate: Array
    least_used_gate: Array
    is_start: Array
    is_valid: Array


class _Memory(nnx.Module):
    def __init__(self, config: BlockConfig, rngs: nnx.Rngs) -> None:
        width, self.num_heads = config.width, config.num_heads
        self.in_proj = linear_layer(width, 3 * width, config, rngs)
        self.gate_proj = linear_layer(width, 2 * config.num_heads, config, rngs, bias=True)
        self.log_sharpness = nnx.Param(jnp.full((config.num_heads, 1), jnp.log(8.0), jnp.float32))
        self.out_proj = linear_layer(width, width, config, rngs)

    def __call__(self, x_BxCxD: Array, positions: Array, inputs: RecurrentInputs) -> tuple[Array, RecurrentOutput]:
        del positions
        rows, tokens, width = x_BxCxD.shape
        shape = rows, tokens, self.num_heads, -1
        write_key, read_key, value = (
            x.reshape(shape) for x in jnp.split(self.in_proj(x_BxCxD).astype(jnp.float32), 3, axis=-1)
        )
        gates = jax.nn.sigmoid(self.gate_proj(x_BxCxD).astype(jnp.float32)).reshape(shape)
        token = _Token(
            _normalize(write_key),
            _normalize(read_key),
            value,
            gates[..., 0],
            gates[..., 1],
            inputs.is_start,
            inputs.is_valid,
        )
        sharpness = jnp.exp(self.log_sharpness[...])[None]
        initial_usage = _initial_usage(inputs.state.usage.shape[-1])

        def advance(state: MemoryState, token: _Token) -> tuple[MemoryState, tuple[Array, Array, Array]]:
            return _access(state, token, sharpness, initial_usage)

        by_token = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), token)
        # Slots within the scan are computed again for the gradient: keeping them takes longer, and much memory.
        state, (output, reads, writes) = jax.lax.scan(jax.checkpoint(advance), inputs.state, by_token)
        output = output.swapaxes(0, 1).reshape(rows, tokens, width).astype(x_BxCxD.dtype)
        trace = MemoryTrace(reads.swapaxes(0, 1), writes.swapaxes(0, 1))
        return self.out_proj(output), RecurrentOutput(state, trace)


def _access(
    before: MemoryState, token: _Token, sharpness: Array, initial_usage: Array
) -> tuple[MemoryState, tuple[Array, Array, Array]]:
    """Write, then read; returns what was read [B, H, E], and the weights of reads and writes [B, H, S].

    A write makes a slot a mean of what it held and of what is new. Hence the read after the write is computed from dot
    products with the old slots, in one pass over the memory.
    """
    is_start, is_valid = token.is_start[:, None, None], token.is_valid[:, None, None]
    kept = jnp.where(is_start, 0.0, 1.0)
    usage = jnp.where(is_start, initial_usage, before.usage)
    squares = kept * jnp.sum(before.keys**2, axis=2)
    write_products = kept * jnp.sum(before.keys * token.write_key[..., None], axis=2)
    read_products = kept * jnp.sum(before.keys * token.read_key[..., None], axis=2)

    is_least_used = jax.nn.one_hot(jnp.argmin(usage, axis=-1), usage.shape[-1])
    least_used = token.least_used_gate[..., None]
    writes = least_used * is_least_used + (1 - least_used) * _cosine_weights(write_products, squares, sharpness)
    writes = token.write_gate[..., None] * writes

    retained = 1 - writes
    squares = (
        retained**2 * squares
        + 2 * retained * writes * write_products
        + writes**2 * _dot(token.write_key, token.write_key)
    )
    read_products = retained * read_products + writes * _dot(token.write_key, token.read_key)
    reads = _cosine_weights(read_products, squares, sharpness)
    output = (
        jnp.sum((reads * retained * kept)[..., None, :] * before.values, axis=-1) + _dot(reads, writes) * token.value
    )

    def write(slots: Array, new: Array) -> Array:
        remaining = jnp.where(is_valid, kept * retained, 1.0)[..., None, :]
        written = jnp.where(is_valid, writes, 0.0)[..., None, :]
        return remaining * slots + written * jnp.where(is_valid, new, 0.0)[..., None]

    usage = jnp.where(is_valid, _USAGE_DECAY * usage + reads + writes, before.usage)
    after = MemoryState(write(before.keys, token.write_key), write(before.values, token.value), usage)
    return after, (output, reads, writes)


def _cosine_weights(products: Array, squares: Array, sharpness: Array) -> Array:
    """[B, H, S] softmax of cosines, from products with the slots and the slots' squared lengths.

    An empty slot has cosine 0.
    """
    return jax.nn.softmax(sharpness * products * jax.lax.rsqrt(squares + _EPSILON), axis=-1)


def _dot(x: Array, y: Array) -> Array:
    """[..., 1]."""
    return jnp.sum(x * y, axis=-1, keepdims=True)


def _normalize(x: Array) -> Array:
    return x * jax.lax.rsqrt(_dot(x, x) + _EPSILON)
