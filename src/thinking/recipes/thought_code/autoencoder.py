"""A discrete autoencoder: a number is encoded as a few tokens, and decoded from them.

Axes: B numbers, V values, T tokens of a code, K different tokens, D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from thinking.networks.blocks import BlockConfig, FeedForward, linear_layer
from thinking.networks.pure import make_pure
from thinking.reasoning.thoughts.steps import GradientEstimator, choose_token
from thinking.train_state import TrainState, apply_gradients
from thinking.types import Array, Params


class Autoencoder(NamedTuple):
    """Pure functions; all jit.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        encode: `encode(params, numbers [B], key=None) -> (weights [B, T, K], tokens [B, T])`. With a key, which is
            consumed, tokens are sampled as in training; without one each is the likeliest.
        decode: `decode(params, weights [B, T, K]) -> [B, V]`, logits of the number.
    """

    init: Callable[[Array], Params]
    encode: Callable[..., tuple[Array, Array]]
    decode: Callable[[Params, Array], Array]


def autoencoder(
    *, num_values: int, length: int, num_tokens: int, width: int, gradient: GradientEstimator = "straight_through"
) -> Autoencoder:
    """An autoencoder with discrete latent tokens.

    Args:
        num_values: V.
        length: T.
        num_tokens: K; distinct codes need K ** T >= V.
        width: D.
        gradient: gradient estimator of the tokens in training; with "sampled" the encoder gets no gradient.
    """
    init, network = make_pure(lambda key: _Network(num_values, length, num_tokens, width, nnx.Rngs(key)))

    def encode(params: Params, numbers: Array, key: Array | None = None) -> tuple[Array, Array]:
        logits = network(params).encode(numbers)
        flat = logits.reshape(-1, num_tokens)
        weights, (tokens, *_) = choose_token(flat, gradient, key, jnp.full(len(flat), -1))
        return weights.reshape(logits.shape), tokens.reshape(logits.shape[:2])

    def decode(params: Params, weights: Array) -> Array:
        return network(params).decode(weights)

    return Autoencoder(init, encode, decode)


class _Network(nnx.Module):
    def __init__(self, num_values: int, length: int, num_tokens: int, width: int, rngs: nnx.Rngs) -> None:
        block = BlockConfig(width=width, num_heads=1)
        self.shape = length, num_tokens
        self.value_embedding = nnx.Embed(num_values, width, rngs=rngs)
        self.encoder, self.decoder = FeedForward(block, rngs), FeedForward(block, rngs)
        self.token_head = linear_layer(width, length * num_tokens, block, rngs)
        self.token_proj = linear_layer(length * num_tokens, width, block, rngs)
        self.norms = nnx.List([nnx.RMSNorm(width, rngs=rngs) for _ in range(4)])
        self.output_head = linear_layer(width, num_values, block, rngs)

    def encode(self, numbers: Array) -> Array:
        x = self.value_embedding(numbers)
        x = x + self.encoder(self.norms[0](x))
        return self.token_head(self.norms[1](x)).reshape(len(x), *self.shape)

    def decode(self, weights: Array) -> Array:
        x = self.token_proj(weights.reshape(len(weights), -1))
        x = x + self.decoder(self.norms[2](x))
        return self.output_head(self.norms[3](x))


def make_autoencoder_step(
    model: Autoencoder, optimizer: optax.GradientTransformation, *, num_values: int, batch_size: int, key: Array
) -> Callable[[TrainState, Array], tuple[TrainState, dict[str, Array]]]:
    """`step(train_state, index) -> (train_state, metrics)`: reconstruct uniformly drawn numbers.

    The numbers are a function of key and index.
    """

    def step(train_state: TrainState, index: Array) -> tuple[TrainState, dict[str, Array]]:
        number_key, choice_key = jax.random.split(jax.random.fold_in(key, index))
        numbers = jax.random.randint(number_key, (batch_size,), 0, num_values, jnp.int32)

        def loss(params: Params) -> tuple[Array, Array]:
            logits = model.decode(params, model.encode(params, numbers, choice_key)[0])
            exact = jnp.mean((jnp.argmax(logits, axis=-1) == numbers).astype(jnp.float32))
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, numbers)), exact

        (loss_value, exact), gradients = jax.value_and_grad(loss, has_aux=True)(train_state.params)
        return apply_gradients(train_state, optimizer, gradients), {"loss": loss_value, "exact_match": exact}

    return step


def encode_all(model: Autoencoder, params: Params, num_values: int) -> tuple[Array, Array]:
    """The tokens [V, T] of every number, and the numbers decoded from them, [V]."""
    weights, tokens = model.encode(params, jnp.arange(num_values, dtype=jnp.int32))
    return tokens, jnp.argmax(model.decode(params, weights), axis=-1)
