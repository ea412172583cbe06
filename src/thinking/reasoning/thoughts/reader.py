"""A transformer that reads symbols side by side and then takes steps one after the other, remembering all of both.

A step stands where a symbol stands, at distance 0 from it, however long the word is. Attention fades with distance
(ALiBi, Press et al. 2022), in some heads so fast that from the start a step looks at its own symbol; what it does
there is then the same at any length.

Axes: B rows, N symbols, S slots of the memory, Q queries, D width, H heads, E dimensions of a head.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import AttendFn, Block, BlockConfig
from thinking.types import Array

MAX_SLOPE, MIN_SLOPE = 4.0, 0.05
"""How much the logits of the first and of the last head fall with each place of distance."""


class ReaderCache(NamedTuple):
    """What has been read.

    Attributes:
        layers: of each layer keys and values, [B, S, H, E] both.
        positions: [B, S] int32, where the tokens in the slots stand.
        is_visible: [B, S] bool, which slots may be looked at.
    """

    layers: tuple[tuple[Array, Array], ...]
    positions: Array
    is_visible: Array


class Reader(nnx.Module):
    """Blocks and a last norm."""

    def __init__(self, block: BlockConfig, num_layers: int, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(block, rngs) for _ in range(num_layers)])
        self.norm = nnx.RMSNorm(block.width, dtype=block.dtype, rngs=rngs)

    def read(self, x_BxNxD: Array, positions: Array, valid_mask: Array, num_free_slots: int) -> ReaderCache:
        """The memory of rows, with room for more.

        Args:
            x_BxNxD: what is read, each causally.
            positions: [B, N] int32.
            valid_mask: [B, N] bool, which of them count.
            num_free_slots: slots kept free for steps.
        """
        numbers = jnp.arange(valid_mask.shape[1])
        mask = (numbers[None] <= numbers[:, None])[None] & valid_mask[:, None]

        def attend(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
            free = [(0, 0), (0, num_free_slots), (0, 0), (0, 0)]
            return _alibi_attention(q, k, v, mask, positions, positions), (jnp.pad(k, free), jnp.pad(v, free))

        layers = self._run(x_BxNxD, positions, [attend] * len(self.blocks))[1]
        return ReaderCache(
            tuple(layers), *(jnp.pad(each, ((0, 0), (0, num_free_slots))) for each in (positions, valid_mask))
        )

    def step(self, cache: ReaderCache, x_BxD: Array, position: Array, slot: Array) -> tuple[Array, ReaderCache]:
        """What one more token [B, D] at places [B] comes to, [B, D], and the memory with it in a slot, [] int32."""
        seen, positions = cache.is_visible.at[:, slot].set(True), cache.positions.at[:, slot].set(position)

        def attend_to(layer: tuple[Array, Array]) -> AttendFn:
            def attend(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
                keys, values = (old.at[:, slot].set(new[:, 0]) for old, new in zip(layer, (k, v), strict=True))
                return _alibi_attention(q, keys, values, seen[:, None], position[:, None], positions), (keys, values)

            return attend

        hidden, layers = self._run(x_BxD[:, None], position[:, None], [attend_to(layer) for layer in cache.layers])
        return hidden[:, 0], ReaderCache(tuple(layers), positions, seen)

    def _run(
        self, x_BxCxD: Array, positions: Array, attends: list[AttendFn]
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        kept = []
        for block, attend in zip(self.blocks, attends, strict=True):
            x_BxCxD, handed = block(x_BxCxD, positions, attend)
            kept.append(handed)
        return self.norm(x_BxCxD), kept


def _alibi_attention(q: Array, k: Array, v: Array, mask: Array, query_positions: Array, key_positions: Array) -> Array:
    """[B, Q, H, E] attention of queries at places `query_positions` [B, Q] to keys `key_positions` [B, S] that the mask [B, Q, S] allows.

    Every query must see a key.
    """
    slopes = jnp.geomspace(MAX_SLOPE, MIN_SLOPE, q.shape[2])[None, :, None, None]
    distance = jnp.abs(query_positions[:, :, None] - key_positions[:, None])[:, None].astype(jnp.float32)
    logits = jnp.einsum("bqhe,bshe->bhqs", q, k) * q.shape[3] ** -0.5 - slopes * distance
    weights = jax.nn.softmax(jnp.where(mask[:, None], logits, -jnp.inf), axis=-1)
    return jnp.einsum("bhqs,bshe->bqhe", weights, v)
