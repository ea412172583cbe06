"""Pre-norm blocks, shared by kernels and the decoder.

A block gets its attention as a function, so the same weights serve whole rows and incremental decoding. A recurrent
mixer gets its state for the same end.

Shapes in names: B rows, C tokens, D width, H query heads, G key-value heads, E dimensions of a head, F inner width.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.positions import Position, rotary
from thinking.types import Array

AttendFn = Callable[[Array, Array, Array], tuple[Array, Any]]
"""`attend(q [B, C, H, E], k [B, C, G, E], v [B, C, G, E]) -> (output [B, N, H, E], auxiliary output)`.

N is C, or less where only the last tokens are needed."""


@dataclass(frozen=True)
class BlockConfig:
    """The shape of a block.

    Attributes:
        width: D.
        num_heads: H, a divisor of the width.
        num_kv_heads: G, a divisor of H, for grouped-query attention (Ainslie et al. 2023); H by default.
        feed_forward: F. The default is 4 D, or with gating 8 D / 3 (as many weights), rounded up to a multiple of 64,
            for efficient matrix units.
        gated: SwiGLU (Shazeer 2020) in place of ReLU.
        position: an encoding of `thinking.networks.positions`.
        dropout: dropout rate in [0, 1), used where a key is given.
        dtype: of the arithmetic; parameters are float32.
    """

    width: int
    num_heads: int
    num_kv_heads: int | None = None
    feed_forward: int | None = None
    gated: bool = False
    position: Position = rotary()
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width {self.width} is out of range; give at least 1")
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(
                f"num_heads {self.num_heads} does not divide width {self.width}; take a divisor of {self.width}"
            )
        if self.num_kv_heads is not None and (self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads):
            raise ValueError(
                f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}; "
                f"take a divisor of {self.num_heads}"
            )
        if self.feed_forward is not None and self.feed_forward < 1:
            raise ValueError(f"feed_forward {self.feed_forward} is out of range; give at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: allowed is 0 to below 1")

    @property
    def feed_forward_width(self) -> int:
        """F."""
        if self.feed_forward is not None:
            return self.feed_forward
        return -(-8 * self.width // 192) * 64 if self.gated else 4 * self.width


def flat_dot(x: Array, weights: Array, dimensions: Any, **options: Any) -> Array:
    """A drop-in `dot_general` for `nnx.Linear`: x [..., D] times weights [D, F], as a product of two matrices.

    A gradient over several axes makes XLA's CPU backend transpose whole activations, which took half of a training
    step. The gradient is written out, so there is no forward-mode one.
    """
    del dimensions
    product = _product(x.reshape(-1, x.shape[-1]), weights, tuple(options.items()))
    return product.reshape(*x.shape[:-1], weights.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: Array, weights: Array, options: tuple[tuple[str, Any], ...]) -> Array:
    """[N, F] of [N, D] and [D, F]."""
    return jax.lax.dot_general(x, weights, (((1,), (0,)), ((), ())), **dict(options))


def _product_forward(x: Array, weights: Array, options: tuple) -> tuple[Array, tuple[Array, Array]]:
    return _product(x, weights, options), (x, weights)


def _product_backward(options: tuple, residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    """Both gradients. That of the weights transposes the narrower of its two long operands, as that costs less."""
    del options
    x, weights = residuals
    grad = grad.astype(x.dtype)  # logits are float32 whatever the dtype of x
    rows = (((0,), (0,)), ((), ()))
    if x.shape[1] <= grad.shape[1]:
        weights_grad = jax.lax.dot_general(x, grad, rows)
    else:
        # Without a barrier XLA swaps the operands, and so transposes the larger array.
        weights_grad = jax.lax.optimization_barrier(jax.lax.dot_general(grad, x, rows)).T
    x_grad = jax.lax.dot_general(grad, weights, (((1,), (1,)), ((), ())))
    return x_grad, weights_grad


_product.defvjp(_product_forward, _product_backward)


def linear_layer(
    in_features: int, out_features: int, config: BlockConfig, rngs: nnx.Rngs, *, bias: bool = False
) -> nnx.Linear:
    """A linear layer with fan-in scaled initialization."""
    return nnx.Linear(
        in_features,
        out_features,
        use_bias=bias,
        kernel_init=nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
        dtype=config.dtype,
        dot_general=flat_dot,
        rngs=rngs,
    )


class PositionalEncoding(nnx.Module):
    """What a position encoding adds to tokens before the first block."""

    def __init__(self, config: BlockConfig, max_length: int, rngs: nnx.Rngs) -> None:
        """Build it for rows of up to `max_length` tokens.

        Raises:
            ValueError: if fewer positions are learned.
        """
        num_learned, self.add = config.position.num_learned, config.position.add
        if 0 < num_learned < max_length:
            raise ValueError(
                f"{num_learned} learned positions are too few for {max_length} tokens; give learned({max_length})"
            )
        normal = nnx.initializers.normal(config.width**-0.5)
        self.position_embedding = (
            nnx.Embed(num_learned, config.width, embedding_init=normal, rngs=rngs) if num_learned else None
        )

    def __call__(self, x_BxCxD: Array, positions_BxC: Array, coordinates_BxCxK: Array) -> Array:
        """[B, C, D], the tokens with their positions added."""
        if self.position_embedding is not None:
            x_BxCxD = x_BxCxD + self.position_embedding(positions_BxC).astype(x_BxCxD.dtype)
        return self.add(x_BxCxD, positions_BxC, coordinates_BxCxK)


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: BlockConfig, rngs: nnx.Rngs) -> None:
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads or config.num_heads
        self.head_dim, self.rotate = config.width // config.num_heads, config.position.rotate
        qkv_width = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        self.qkv_proj = linear_layer(config.width, qkv_width, config, rngs)
        self.out_proj = linear_layer(config.width, config.width, config, rngs)

    def __call__(self, x_BxCxD: Array, positions_BxC: Array, attend: AttendFn) -> tuple[Array, Any]:
        """The output [B, C, D], or [B, N, D] if `attend` returns the last N tokens alone; and its auxiliary output."""
        rows, tokens, width = x_BxCxD.shape
        qkv = self.qkv_proj(x_BxCxD).reshape(rows, tokens, -1, self.head_dim)
        first, last = self.num_heads, self.num_heads + self.num_kv_heads
        q, k, v = qkv[:, :, :first], qkv[:, :, first:last], qkv[:, :, last:]
        output, aux = attend(self.rotate(q, positions_BxC), self.rotate(k, positions_BxC), v)
        return self.out_proj(output.reshape(rows, -1, width)), aux


class FeedForward(nnx.Module):
    """Two linear layers with ReLU between, or SwiGLU."""

    def __init__(self, config: BlockConfig, rngs: nnx.Rngs) -> None:
        width, inner, plain = config.width, config.feed_forward_width, not config.gated
        self.gate_proj = None if plain else linear_layer(width, inner, config, rngs)
        self.up_proj = linear_layer(width, inner, config, rngs, bias=plain)
        self.down_proj = linear_layer(inner, width, config, rngs, bias=plain)

    def __call__(self, x_BxCxD: Array) -> Array:
        """[B, C, D], position-wise."""
        inner = self.up_proj(x_BxCxD)
        return self.down_proj(
            jax.nn.relu(inner) if self.gate_proj is None else jax.nn.silu(self.gate_proj(x_BxCxD)) * inner
        )


class Block(nnx.Module):
    """A mixer and feed-forward, each pre-normalized with a residual connection (Xiong et al. 2020)."""

    def __init__(
        self,
        config: BlockConfig,
        rngs: nnx.Rngs,
        build_mixer: Callable[[BlockConfig, nnx.Rngs], nnx.Module] = Attention,
    ) -> None:
        """Build it; `build_mixer` makes what mixes tokens (`thinking.networks.mixers`)."""
        self.mixer_norm = nnx.RMSNorm(config.width, dtype=config.dtype, rngs=rngs)
        self.mixer = build_mixer(config, rngs)
        self.feed_forward_norm = nnx.RMSNorm(config.width, dtype=config.dtype, rngs=rngs)
        self.feed_forward = FeedForward(config, rngs)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(
        self, x_BxCxD: Array, positions_BxC: Array, mixer_inputs: Any, rngs: nnx.Rngs | None = None
    ) -> tuple[Array, Any]:
        """The output [B, C, D], and the auxiliary output of the mixer; no dropout without `rngs`.

        `mixer_inputs` are what the mixer needs: attention takes an `AttendFn`, a recurrence `RecurrentInputs`. If the
        mixer returns the last N tokens alone, so does the block: [B, N, D].
        """

        def drop(x: Array) -> Array:
            return self.dropout(x, deterministic=rngs is None, rngs=rngs)

        mixed, aux = self.mixer(self.mixer_norm(x_BxCxD), positions_BxC, mixer_inputs)
        x_BxCxD = x_BxCxD[:, -mixed.shape[1] :] + drop(mixed)
        return x_BxCxD + drop(self.feed_forward(self.feed_forward_norm(x_BxCxD))), aux
