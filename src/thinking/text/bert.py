"""BERT (Devlin et al. 2019), as far as embedding sentences needs it: several of them in a row, each by itself.

Axes: R rows, T tokens of a row, S sentences of a row, V words, P places, D dimensions, H heads, E of a head.
"""

import functools

import jax
import jax.numpy as jnp

from thinking.types import Array, Params


@functools.partial(jax.jit, static_argnames=("num_heads", "epsilon", "use_cls_token"))
def encode(
    params: Params,
    tokens: Array,
    positions: Array,
    segments: Array,
    *,
    num_heads: int,
    epsilon: float,
    use_cls_token: bool,
) -> Array:
    """Vectors [R, S, D] of length 1 of the sentences of rows.

    Args:
        params: `tokens` [V, D], `positions` [P, D], `norm`, and `layers`, whose leaves have the layers in front.
        tokens: [R, T] int32 tokens.
        positions: [R, T] int32, where each stands in its sentence.
        segments: [R, T] int32, the number of its sentence in the row, from 1; 0 in padding.
        num_heads: H.
        epsilon: of the layer norms.
        use_cls_token: whether a sentence's vector is that of its first token; the mean of all, if not.
    """
    own = segments[:, :, None] == segments[:, None, :]
    bias = jnp.where(own, 0.0, -jnp.inf)[None]

    def layer(x: Array, weights: Params) -> tuple[Array, None]:
        x = _norm(x + _attend(x, bias, weights, num_heads), weights["attention_norm"], epsilon)
        wide = _gelu(_linear(x, weights["widen"]))
        return _norm(x + _linear(wide, weights["narrow"]), weights["norm"], epsilon), None

    with jax.default_matmul_precision("highest"):  # on a GPU products would be rounded to 10 bits
        x = _norm(params["words"][tokens] + params["places"][positions], params["norm"], epsilon)
        # A scan compiles in half the time of layers one by one, and runs faster too.
        x = jax.lax.scan(layer, x, params["layers"])[0]
        # Two tokens, one for each end, is the least a sentence has.
        numbers = 1 + jnp.arange(tokens.shape[1] // 2, dtype=segments.dtype)
        counts = segments[:, None, :] == numbers[None, :, None]
        if use_cls_token:
            counts &= (positions == 0)[:, None, :]
        summed = jnp.einsum("rst,rtd->rsd", counts.astype(x.dtype), x)
        return summed / jnp.maximum(jnp.linalg.norm(summed, axis=-1, keepdims=True), 1e-12)


def _attend(x: Array, bias: Array, weights: Params, num_heads: int) -> Array:
    rows, tokens, width = x.shape
    size = width // num_heads
    projected = _linear(x, weights["project_in"]).reshape(rows, tokens, 3, num_heads, size)
    q, k, v = jnp.transpose(projected, (2, 3, 0, 1, 4))  # heads in front, as the products of each want them
    scores = jnp.einsum("hrqe,hrke->hrqk", q, k) * size**-0.5
    mixed = jnp.einsum("hrqk,hrke->hrqe", jax.nn.softmax(scores + bias), v)
    return _linear(jnp.transpose(mixed, (1, 2, 0, 3)).reshape(rows, tokens, width), weights["project_out"])


def _gelu(x: Array) -> Array:
    """As BERT has it, by erf; `jax.nn.gelu` goes by erfc, which takes longer."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def _linear(x: Array, weights: tuple[Array, Array]) -> Array:
    kernel, bias = weights
    flat = x.reshape(-1, x.shape[-1]) @ kernel + bias[None]
    return flat.reshape(*x.shape[:-1], -1)


def _norm(x: Array, weights: tuple[Array, Array], epsilon: float) -> Array:
    scale, bias = weights
    apart = x - jnp.mean(x, axis=-1, keepdims=True)
    spread = jax.lax.rsqrt(jnp.mean(jnp.square(apart), axis=-1, keepdims=True) + epsilon)
    return apart * spread * scale[None, None] + bias[None, None]
