"""Attention over whole rows, in time and memory proportional to the pairs that a pattern keeps.

Axes: B rows, T tokens, H query heads, G key-value heads, R query heads that share each, E dimensions of a head.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.dense import attend_first_tokens, dense_attention
from thinking.networks.attention.partials import (
    QKV,
    BlockSizes,
    PartialSoftmax,
    TokenPositions,
    make_mask_fn,
    merge,
    normalize,
)
from thinking.networks.attention.patterns import Dense, Global, Pattern, Strided, TopK, Union, Window, pattern_parts
from thinking.networks.attention.reference import dense_mask, masked_attention
from thinking.networks.attention.top_k import top_k_attention
from thinking.networks.attention.windowed import strided_attention, window_attention
from thinking.types import Array


def attention(
    q: Array, k: Array, v: Array, *, pattern: Pattern = Dense(), causal: bool = True, segments: Array | None = None
) -> Array:
    """Scaled dot-product attention under a pattern.

    Positions are indices in a row, from 0, also in packed rows: `Global` means the first positions of the row, and no
    other segment sees them. A query that sees nothing gives zeros. Logits and softmax are float32.

    Args:
        q: [B, T, H, E] float.
        k: [B, T, G, E], where G divides H: query head h reads key head h // (H // G) (Ainslie et al. 2023).
        v: [B, T, G, E].
        pattern: the attention pattern; a size beyond T equals T.
        causal: whether keys after the query are hidden.
        segments: [B, T] int32; tokens attend within their segment, and 0 is padding. One segment a row by default.

    Returns:
        [B, T, H, E] in the dtype of q.

    Raises:
        ValueError: if shapes or dtypes do not fit.
    """
    _check(q, k, v, segments)
    pattern = _simplify(pattern, q.shape[1])
    if q.shape[1] <= BlockSizes().max_tokens_for_one_mask:
        return masked_attention(q, k, v, dense_mask(pattern, q, k, causal, segments))
    backend = jax.default_backend()
    if backend == "gpu" and segments is None and _can_use_cudnn(q, pattern, causal):
        reach = (pattern.size - 1, 0) if isinstance(pattern, Window) else None
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, local_window_size=reach, implementation="cudnn")
    # On a CPU a step should fit its caches; other devices want larger steps.
    sizes = BlockSizes() if backend == "cpu" else BlockSizes(max_pairs=2**24)
    return sparse_attention(q, k, v, pattern, causal, segments, sizes)


def sparse_attention(
    q: Array, k: Array, v: Array, pattern: Pattern, causal: bool, segments: Array | None, sizes: BlockSizes
) -> Array:
    """`attention` for long rows, in blocks of given sizes."""
    positions = jnp.arange(q.shape[1], dtype=jnp.int32)[None]
    tokens = (
        TokenPositions(positions, jnp.ones_like(positions)) if segments is None else TokenPositions(positions, segments)
    )
    rows = QKV(q.reshape(*k.shape[:3], -1, k.shape[3]), k, v, tokens)
    # `TopK` comes last: the others exclude what earlier parts see by position alone.
    parts = sorted(pattern_parts(pattern), key=lambda part: isinstance(part, TopK))
    partials = [_attend_part(part, tuple(parts[:i]), rows, causal, sizes) for i, part in enumerate(parts)]
    return normalize(merge(partials) if len(partials) > 1 else partials[0]).reshape(q.shape).astype(q.dtype)


def _attend_part(
    part: Pattern, earlier: tuple[Pattern, ...], rows: QKV, causal: bool, sizes: BlockSizes
) -> PartialSoftmax:
    mask_fn = make_mask_fn(Dense(), earlier, causal)
    match part:
        case Window(size):
            return window_attention(rows, size, causal, make_mask_fn(part, earlier, causal), sizes)
        case Strided(stride, size):
            # Regrouped tokens all are multiples of the stride apart, so only the distance is left to check.
            near = mask_fn if size is None else make_mask_fn(Window(stride * size), earlier, causal)
            return strided_attention(rows, stride, size, causal, near, sizes)
        case Global(count):
            return attend_first_tokens(rows, count, causal, make_mask_fn(part, earlier, causal), sizes)
        case TopK(block, blocks):
            return top_k_attention(rows, block, blocks, causal, mask_fn, sizes)
        case _:
            return dense_attention(rows, mask_fn, sizes)


def _simplify(pattern: Pattern, num_tokens: int) -> Pattern:
    """The same pattern for so many tokens; parts that see all of them become dense."""
    parts = dict.fromkeys(_simplify_part(part, num_tokens) for part in pattern_parts(pattern))
    if Dense() in parts:
        return Dense()
    return Union(tuple(parts)) if len(parts) > 1 else next(iter(parts))


def _simplify_part(part: Pattern, num_tokens: int) -> Pattern:
    match part:
        case Window(size) | Global(size) | Strided(1, int() as size):
            if size >= num_tokens:
                return Dense()
            return Window(size) if isinstance(part, Strided) else part
        case TopK(block, blocks):
            return Dense() if block * blocks >= num_tokens else part
        case Strided(1, None):
            return Dense()
        case Strided(stride, size):
            if stride >= num_tokens:
                return Window(1)
            return Strided(stride) if size is not None and stride * size >= num_tokens else part
    return part


def _can_use_cudnn(q: Array, pattern: Pattern, causal: bool) -> bool:
    """Whether cuDNN's fused kernels support this."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    fits = q.shape[3] % 8 == 0 and q.shape[3] <= 128
    return half and fits and (isinstance(pattern, Dense) or (isinstance(pattern, Window) and causal))


def _check(q: Array, k: Array, v: Array, segments: Array | None) -> None:
    for name, array in {"q": q, "k": k, "v": v}.items():
        if array.ndim != 4:
            raise ValueError(f"attention: {name} has shape {array.shape}; give [rows, tokens, heads, size]")
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype != q.dtype:
            raise ValueError(f"attention: {name} is {array.dtype} and q is {q.dtype}; give all in one float dtype")
    if 0 in q.shape:
        raise ValueError(f"attention: q has shape {q.shape}; give at least 1 row, token, head and dimension")
    if k.shape != v.shape or (*k.shape[:2], k.shape[3]) != (*q.shape[:2], q.shape[3]):
        raise ValueError(
            f"attention: q, k and v have shapes {q.shape}, {k.shape} and {v.shape}; only the heads of q may differ"
        )
    if k.shape[2] < 1 or q.shape[2] % k.shape[2]:
        raise ValueError(
            f"attention: {k.shape[2]} heads of keys do not divide {q.shape[2]} heads; take a divisor of {q.shape[2]}"
        )
    if segments is not None and (segments.shape != q.shape[:2] or not jnp.issubdtype(segments.dtype, jnp.integer)):
        raise ValueError(
            f"attention: segments are {segments.dtype} {segments.shape}; give whole numbers of shape {q.shape[:2]}"
        )
