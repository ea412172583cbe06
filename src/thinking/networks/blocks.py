"""Pre-norm transformer blocks.

Shapes in names: B rows, C tokens, D width, H heads, E dimensions of a head.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.positions import Position

Array = jax.Array


def attend(q_BxCxHxE: Array, k_BxCxHxE: Array, v_BxCxHxE: Array, mask_BxCxC: Array) -> Array:
    """Scaled dot-product attention [B, C, H, E] from queries to the keys that the mask allows.

    A query that may attend to nothing gives zeros.
    """
    logits_BxHxCxC = jnp.einsum("bqhe,bkhe->bhqk", q_BxCxHxE, k_BxCxHxE) * q_BxCxHxE.shape[-1] ** -0.5
    mask_Bx1xCxC = mask_BxCxC[:, None]
    weights = jax.nn.softmax(jnp.where(mask_Bx1xCxC, logits_BxHxCxC, jnp.finfo(logits_BxHxCxC.dtype).min), axis=-1)
    return jnp.einsum("bhqk,bkhe->bqhe", jnp.where(mask_Bx1xCxC, weights, 0), v_BxCxHxE)


def causal_window(valid_BxC: Array, window: int) -> Array:
    """[B, C, C] bool: each token sees itself and the `window - 1` valid ones before it."""
    index = jnp.arange(valid_BxC.shape[1])
    back = index[:, None] - index[None, :]
    return ((back >= 0) & (back < window))[None] & valid_BxC[:, None, :]


class Attention(nnx.Module):
    """Multi-head self-attention; `heads` must divide `width`."""

    def __init__(self, width: int, heads: int, position: Position, rngs: nnx.Rngs) -> None:
        if heads < 1 or width % heads:
            raise ValueError(f"heads {heads} does not divide width {width}; take a divisor of {width}")
        self.heads, self.rotate = heads, position.rotate
        self.project_in = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.project_out = nnx.Linear(width, width, use_bias=False, rngs=rngs)

    def __call__(self, x_BxCxD: Array, mask_BxCxC: Array) -> Array:
        """[B, C, D] what each token gathers from those that its row of the mask allows."""
        rows, tokens, width = x_BxCxD.shape
        joined = self.project_in(x_BxCxD).reshape(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = joined[:, :, 0], joined[:, :, 1], joined[:, :, 2]
        mixed = attend(self.rotate(q), self.rotate(k), v, mask_BxCxC)
        return self.project_out(mixed.reshape(rows, tokens, width))


class FeedForward(nnx.Module):
    """Two layers with a rectifier between them, four times as wide inside."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.widen = nnx.Linear(width, 4 * width, rngs=rngs)
        self.narrow = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x_BxCxD: Array) -> Array:
        """[B, C, D], each token by itself."""
        return self.narrow(jax.nn.relu(self.widen(x_BxCxD)))


class Block(nnx.Module):
    """Attention, then feed-forward, each on a normalised copy and added back (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, position: Position, dropout: float, rngs: nnx.Rngs) -> None:
        self.attention_norm = nnx.RMSNorm(width, rngs=rngs)
        self.attention = Attention(width, heads, position, rngs)
        self.feed_forward_norm = nnx.RMSNorm(width, rngs=rngs)
        self.feed_forward = FeedForward(width, rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x_BxCxD: Array, mask_BxCxC: Array, rngs: nnx.Rngs | None) -> Array:
        """The block's output [B, C, D]; nothing is dropped without `rngs`."""

        def drop(x: Array) -> Array:
            return self.dropout(x, deterministic=rngs is None, rngs=rngs)

        x_BxCxD = x_BxCxD + drop(self.attention(self.attention_norm(x_BxCxD), mask_BxCxC))
        return x_BxCxD + drop(self.feed_forward(self.feed_forward_norm(x_BxCxD)))
