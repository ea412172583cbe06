"""Distributions of actions, given what an actor computes.

Axes: B rows (any number of leading axes), A numbers that an actor computes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.types import Array, Discrete, Params, Space, value_width


class ActionDistribution(NamedTuple):
    """The functions of a distribution; `output` is what the actor computed, [B, A].

    Attributes:
        init: `init() -> params`, a dictionary of parameters beside those of the actor.
        sample: `sample(params, key, output) -> action`; consumes the key.
        mode: `mode(output) -> action`, the most likely one.
        log_prob: `log_prob(params, output, action) -> [B]`, in nats.
        entropy: `entropy(params, output) -> [B]`, in nats.
    """

    init: Callable[[], Params]
    sample: Callable[[Params, Array, Array], Array]
    mode: Callable[[Array], Array]
    log_prob: Callable[[Params, Array, Array], Array]
    entropy: Callable[[Params, Array], Array]


def make_distribution(action_space: Space) -> ActionDistribution:
    """A softmax for discrete actions; for continuous ones a normal distribution with a log_std of its own."""
    return _softmax(action_space.size) if isinstance(action_space, Discrete) else _normal(value_width(action_space))


def _softmax(num_actions: int) -> ActionDistribution:
    def sample(params: Params, key: Array, output: Array) -> Array:
        return jax.random.categorical(key, output).astype(jnp.int32)

    def log_prob(params: Params, output: Array, action: Array) -> Array:
        # A product: the gradient of a gather is a slow scatter on a CPU.
        return jnp.sum(jax.nn.log_softmax(output) * jax.nn.one_hot(action, num_actions), axis=-1)

    def entropy(params: Params, output: Array) -> Array:
        log_probs = jax.nn.log_softmax(output)
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    return ActionDistribution(
        dict, sample, lambda output: jnp.argmax(output, axis=-1).astype(jnp.int32), log_prob, entropy
    )


def _normal(dims: int) -> ActionDistribution:
    def broadcast_log_std(params: Params, output: Array) -> Array:
        return jnp.broadcast_to(params["log_std"], output.shape)

    def sample(params: Params, key: Array, output: Array) -> Array:
        return output + jnp.exp(broadcast_log_std(params, output)) * jax.random.normal(key, output.shape)

    def log_prob(params: Params, output: Array, action: Array) -> Array:
        log_std = broadcast_log_std(params, output)
        negative_log_prob = 0.5 * ((action - output) * jnp.exp(-log_std)) ** 2 + log_std + 0.5 * jnp.log(2 * jnp.pi)
        return -jnp.sum(negative_log_prob, axis=-1)

    def entropy(params: Params, output: Array) -> Array:
        return jnp.sum(broadcast_log_std(params, output) + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)

    return ActionDistribution(
        lambda: {"log_std": jnp.zeros(dims, jnp.float32)}, sample, lambda output: output, log_prob, entropy
    )
