"""BERT (Devlin et al. 2019) for sentence embeddings, with several packed sentences per row.

Axes: R rows, T tokens of a row, S sentences of a row, V vocabulary, P positions, D dimensions, H heads, E head
dimensions.
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
    """Unit vectors [R, S, D] of the sentences of rows.

    Args:
        params: `token_embedding` [V, D], `position_embedding` [P, D], `norm`, and `layers`, whose leaves are stacked
            over layers.
        tokens: [R, T] int32 tokens.
        positions: [R, T] int32, position of each token in its sentence.
        segments: [R, T] int32, index of its sentence in the row, from 1; 0 in padding.
        num_heads: H.
        epsilon: of the layer norms.
        use_cls_token: pool by the first token; otherwise by the mean of all tokens.
    """
    is_same_sentence = segments[:, :, None] == segments[:, None, :]
    bias = jnp.where(is_same_sentence, 0.0, -jnp.inf)[None]

    def layer(x: Array, weights: Params) -> tuple[Array, None]:
        x = _norm(x + _attend(x, bias, weights, num_heads), weights["attention_norm"], epsilon)
        hidden = _gelu(_linear(x, weights["up_proj"]))
        return _norm(x + _linear(hidden, weights["down_proj"]), weights["norm"], epsilon), None

    with jax.default_matmul_precision("highest"):  # a GPU would otherwise round products to 10 mantissa bits
        x = _norm(params["token_embedding"][tokens] + params["position_embedding"][positions], params["norm"], epsilon)
        # A scan compiles in half the time of unrolled layers, and runs faster.
        x = jax.lax.scan(layer, x, params["layers"])[0]
        # A sentence has at least two tokens: [CLS] and [SEP].
        segment_ids = 1 + jnp.arange(tokens.shape[1] // 2, dtype=segments.dtype)
        is_pooled = segments[:, None, :] == segment_ids[None, :, None]
        if use_cls_token:
            is_pooled &= (positions == 0)[:, None, :]
        pooled = jnp.einsum("rst,rtd->rsd", is_pooled.astype(x.dtype), x)
        return pooled / jnp.maximum(jnp.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)


def _attend(x: Array, bias: Array, weights: Params, num_heads: int) -> Array:
    rows, tokens, width = x.shape
    head_dim = width // num_heads
    projected = _linear(x, weights["qkv_proj"]).reshape(rows, tokens, 3, num_heads, head_dim)
    q, k, v = jnp.transpose(projected, (2, 3, 0, 1, 4))  # heads first, for the batched products
    scores = jnp.einsum("hrqe,hrke->hrqk", q, k) * head_dim**-0.5
    mixed = jnp.einsum("hrqk,hrke->hrqe", jax.nn.softmax(scores + bias), v)
    return _linear(jnp.transpose(mixed, (1, 2, 0, 3)).reshape(rows, tokens, width), weights["out_proj"])


def _gelu(x: Array) -> Array:
    """GELU by erf, as in BERT; `jax.nn.gelu` uses erfc, which is slower."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def _linear(x: Array, weights: tuple[Array, Array]) -> Array:
    kernel, bias = weights
    flat = x.reshape(-1, x.shape[-1]) @ kernel + bias[None]
    return flat.reshape(*x.shape[:-1], -1)


def _norm(x: Array, weights: tuple[Array, Array], epsilon: float) -> Array:
    scale, bias = weights
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse_std = jax.lax.rsqrt(jnp.mean(jnp.square(centered), axis=-1, keepdims=True) + epsilon)
    return centered * inverse_std * scale[None, None] + bias[None, None]
