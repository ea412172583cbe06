"""Attention on a TPU by the splash kernel of JAX, for patterns that go by places.

Axes: B rows, T tokens, H heads, G heads of keys, E dimensions of a head.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import (
    BlockSizes,
    Mask,
    MultiHeadMask,
    SegmentIds,
    make_splash_mha_single_device,
)

from thinking.networks.attention.patterns import Global, Pattern, TopK, parts_of, sees
from thinking.types import Array

SMALL, LARGE = 128, 512  # blocks; the lanes of a TPU are the least that the kernel takes
LONGEST = 2**13  # tokens up to which the mask is looked through, once a program, in a few seconds


class _Places(Mask):
    """Which keys a pattern sees, asked block by block, so that no mask of all pairs is ever made."""

    def __init__(self, pattern: Pattern, causal: bool, tokens: int) -> None:
        self.pattern, self.causal, self.shape_ = pattern, causal, (tokens, tokens)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shape_

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        query, key = (np.arange(size)[part] for part, size in zip(index, self.shape_, strict=True))
        query, key = query[:, None], key[None]
        with jax.ensure_compile_time_eval():
            found = np.asarray(sees(self.pattern, query, key))
        return found & (key <= query) if self.causal else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Places) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.pattern, self.causal, self.shape_))


def splash_can(pattern: Pattern, tokens: int) -> bool:
    """Whether the kernel computes this: every query must see some key, such as its own place."""
    parts = parts_of(pattern)
    return (
        tokens <= LONGEST
        and not any(isinstance(part, TopK) for part in parts)
        and not all(isinstance(part, Global) for part in parts)
    )


def splash_attention(
    q: Array, k: Array, v: Array, pattern: Pattern, causal: bool, segments: Array | None, interpret: bool = False
) -> Array:
    """What `attention` does for long rows; `interpret` runs the kernel without a TPU."""
    rows, tokens, heads, size = q.shape
    segments = jnp.ones((rows, tokens), jnp.int32) if segments is None else segments.astype(jnp.int32)
    missing = -tokens % (SMALL if tokens < 4 * LARGE else LARGE)
    # Padding sees padding in the kernel, and is blanked behind it.
    ids = jnp.pad(jnp.maximum(segments, 0), [(0, 0), (0, missing)])
    q, k, v = (jnp.pad(x, [(0, 0), (0, missing), (0, 0), (0, 0)]).swapaxes(1, 2) for x in (q * size**-0.5, k, v))
    kernel = _kernel(pattern, causal, tokens + missing, heads, interpret)
    mixed = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, segment_ids=SegmentIds(ids, ids)))(q, k, v, ids)
    return jnp.where(segments[:, :, None, None] > 0, mixed.swapaxes(1, 2)[:, :tokens], 0).astype(q.dtype)


@functools.lru_cache(maxsize=64)
def _kernel(pattern: Pattern, causal: bool, tokens: int, heads: int, interpret: bool) -> Callable:
    mask = MultiHeadMask([_Places(pattern, causal, tokens)] * heads)
    block = LARGE if tokens % LARGE == 0 else SMALL
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    sizes = BlockSizes(**{f"block_{name}": block for name in names})
    with jax.ensure_compile_time_eval():
        return make_splash_mha_single_device(mask, block_sizes=sizes, interpret=interpret)
