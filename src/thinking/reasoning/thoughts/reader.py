"""A transformer that encodes symbols in parallel and then takes sequential steps over the same cache.

A step has the position of a symbol. Attention is biased by distance (ALiBi, Press et al. 2022), in some heads so
steeply that an untrained step attends to the symbol at its position; this generalises to any length.

Axes: B rows, N symbols, C tokens of a call, S slots of the cache, Q queries, D width, H heads, E dimensions of a head.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import AttendFn, Block, BlockConfig
from thinking.types import Array

MAX_SLOPE, MIN_SLOPE = 4.0, 0.05
"""ALiBi slopes of the first and of the last head, per position of distance."""


class ReaderCache(NamedTuple):
    """Key-value cache.

    Attributes:
        layers: keys and values of each layer, [B, S, H, E] both.
        positions: [B, S] int32, positions of the slots.
        is_visible: [B, S] bool, slots that may be attended to.
    """

    layers: tuple[tuple[Array, Array], ...]
    positions: Array
    is_visible: Array


class Reader(nnx.Module):
    """Transformer blocks and a final norm."""

    def __init__(self, block: BlockConfig, num_layers: int, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(block, rngs) for _ in range(num_layers)])
        self.norm = nnx.RMSNorm(block.width, dtype=block.dtype, rngs=rngs)

    def read(self, x_BxNxD: Array, positions: Array, valid_mask: Array, num_free_slots: int) -> ReaderCache:
        """The cache of a causal pass over the inputs.

        Args:
            x_BxNxD: inputs.
            positions: [B, N] int32.
            valid_mask: [B, N] bool.
            num_free_slots: empty slots for later steps.
        """
        indices = jnp.arange(valid_mask.shape[1])
        mask = (indices[None] <= indices[:, None])[None] & valid_mask[:, None]

        def attend(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
            padding = [(0, 0), (0, num_free_slots), (0, 0), (0, 0)]
            return _alibi_attention(q, k, v, mask, positions, positions), (jnp.pad(k, padding), jnp.pad(v, padding))

        layers = self._run(x_BxNxD, positions, [attend] * len(self.blocks))[1]
        return ReaderCache(
            tuple(layers), *(jnp.pad(array, ((0, 0), (0, num_free_slots))) for array in (positions, valid_mask))
        )

    def step(self, cache: ReaderCache, x_BxD: Array, position: Array, slot: Array) -> tuple[Array, ReaderCache]:
        """The output [B, D] of an input [B, D] at positions [B], and the cache with it in `slot`, [] int32."""
        is_visible, positions = cache.is_visible.at[:, slot].set(True), cache.positions.at[:, slot].set(position)

        def attend_to(layer: tuple[Array, Array]) -> AttendFn:
            def attend(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
                keys, values = (
                    buffer.at[:, slot].set(update[:, 0]) for buffer, update in zip(layer, (k, v), strict=True)
                )
                return _alibi_attention(q, keys, values, is_visible[:, None], position[:, None], positions), (
                    keys,
                    values,
                )

            return attend

        hidden, layers = self._run(x_BxD[:, None], position[:, None], [attend_to(layer) for layer in cache.layers])
        return hidden[:, 0], ReaderCache(tuple(layers), positions, is_visible)

    def _run(
        self, x_BxCxD: Array, positions: Array, attends: list[AttendFn]
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        layers = []
        for block, attend in zip(self.blocks, attends, strict=True):
            x_BxCxD, layer = block(x_BxCxD, positions, attend)
            layers.append(layer)
        return self.norm(x_BxCxD), layers


def _alibi_attention(q: Array, k: Array, v: Array, mask: Array, query_positions: Array, key_positions: Array) -> Array:
    """[B, Q, H, E] attention with ALiBi; positions [B, Q] and [B, S]; the mask [B, Q, S] is True where keys count."""
    slopes = jnp.geomspace(MAX_SLOPE, MIN_SLOPE, q.shape[2])[None, :, None, None]
    distance = jnp.abs(query_positions[:, :, None] - key_positions[:, None])[:, None].astype(jnp.float32)
    logits = jnp.einsum("bqhe,bshe->bhqs", q, k) * q.shape[3] ** -0.5 - slopes * distance
    weights = jax.nn.softmax(jnp.where(mask[:, None], logits, -jnp.inf), axis=-1)
    return jnp.einsum("bhqs,bshe->bqhe", weights, v)
