"""Attention over whole rows of tokens, in time and memory that grow with the pairs that a pattern keeps.

Axes: B rows, T tokens, H heads, G heads of keys, R query heads that share each, E dimensions of a head.
"""

import jax
import jax.numpy as jnp

from thinking.networks.attention.partials import Partial, Rows, Sizes, Tokens, finish, make_mask_fn, merge
from thinking.networks.attention.patterns import Dense, Global, Pattern, Strided, TopK, Union, Window, pattern_parts
from thinking.networks.attention.reference import dense_mask, masked_attention
from thinking.networks.attention.top_k import top_k
from thinking.networks.attention.whole import attend_first_tokens, dense
from thinking.networks.attention.windowed import strided, window
from thinking.types import Array


def attention(
    q: Array, k: Array, v: Array, *, pattern: Pattern = Dense(), causal: bool = True, segments: Array | None = None
) -> Array:
    """Scaled dot-product attention to the keys that a pattern names.

    Places are indices in a row, from 0, also where a row packs several segments: `Global` means the first places of
    the row, and no other segment sees them. A query that may attend to nothing gives zeros. Logits and softmax are
    float32 whatever the inputs are.

    Args:
        q: [B, T, H, E] float.
        k: [B, T, G, E], where G divides H: query head h reads key head h // (H // G) (Ainslie et al. 2023).
        v: [B, T, G, E].
        pattern: what queries see; a size beyond T is as good as T.
        causal: whether only keys up to the query's place are seen.
        segments: [B, T] int32; tokens attend within their segment, and where it is 0 they neither attend nor are
            attended to. By default a row is one segment.

    Returns:
        [B, T, H, E] in the dtype of q.

    Raises:
        ValueError: if shapes or dtypes do not fit.
    """
    _check(q, k, v, segments)
    pattern = _simplify(pattern, q.shape[1])
    if q.shape[1] <= Sizes().short:
        return masked_attention(q, k, v, dense_mask(pattern, q, k, causal, segments))
    backend = jax.default_backend()
    if backend == "gpu" and segments is None and _can_use_cudnn(q, pattern, causal):
        reach = (pattern.size - 1, 0) if isinstance(pattern, Window) else None
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, local_window_size=reach, implementation="cudnn")
    # A CPU wants what is held at once to fit its caches, others want much work at once.
    sizes = Sizes() if backend == "cpu" else Sizes(pairs=2**24)
    return sparse_attention(q, k, v, pattern, causal, segments, sizes)


def sparse_attention(
    q: Array, k: Array, v: Array, pattern: Pattern, causal: bool, segments: Array | None, sizes: Sizes
) -> Array:
    """What `attention` does for long rows, cut up in given sizes."""
    place = jnp.arange(q.shape[1], dtype=jnp.int32)[None]
    named = Tokens(place, jnp.ones_like(place)) if segments is None else Tokens(place, segments)
    work = Rows(q.reshape(*k.shape[:3], -1, k.shape[3]), k, v, named)
    # What goes by content comes last, as others can be told by places what to leave to those before.
    parts = sorted(pattern_parts(pattern), key=lambda part: isinstance(part, TopK))
    found = [_attend_part(part, tuple(parts[:i]), work, causal, sizes) for i, part in enumerate(parts)]
    return finish(merge(found) if len(found) > 1 else found[0]).reshape(q.shape).astype(q.dtype)


def _attend_part(part: Pattern, earlier: tuple[Pattern, ...], rows: Rows, causal: bool, sizes: Sizes) -> Partial:
    everything = make_mask_fn(Dense(), earlier, causal)
    match part:
        case Window(size):
            return window(rows, size, causal, make_mask_fn(part, earlier, causal), sizes)
        case Strided(stride, size):
            # Among regrouped tokens only the distance is left to ask for.
            near = everything if size is None else make_mask_fn(Window(stride * size), earlier, causal)
            return strided(rows, stride, size, causal, near, sizes)
        case Global(count):
            return attend_first_tokens(rows, count, causal, make_mask_fn(part, earlier, causal), sizes)
        case TopK(block, blocks):
            return top_k(rows, block, blocks, causal, everything, sizes)
        case _:
            return dense(rows, everything, sizes)


def _simplify(pattern: Pattern, num_tokens: int) -> Pattern:
    """The same pattern for so many tokens, with what sees all of them made dense."""
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
    """Whether cuDNN's fused kernels compute this."""
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
