"""Actor-critic policies over observation vectors.

Axes: B rows (any number of leading axes), O observation dimensions, A dimensions of a continuous action.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.perceptron import Perceptron
from thinking.networks.pure import make_pure
from thinking.types import Array, Discrete, Params, Space, value_width


class ActionEvaluation(NamedTuple):
    """Log-probabilities, entropies and values, each of shape [B].

    Attributes:
        log_prob: of the actions, in nats.
        entropy: of the policy, in nats.
        value: of the states.
    """

    log_prob: Array
    entropy: Array
    value: Array


class Policy(NamedTuple):
    """A policy's pure functions.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        act: `act(params, key, observation [B, O]) -> (action, log_prob [B])` samples; consumes the key.
        act_greedily: `act_greedily(params, observation) -> action`, the mode.
        value: `value(params, observation) -> [B]`.
        evaluate_actions: `evaluate_actions(params, observation, action) -> ActionEvaluation`.
    """

    init: Callable[[Array], Params]
    act: Callable[[Params, Array, Array], tuple[Array, Array]]
    act_greedily: Callable[[Params, Array], Array]
    value: Callable[[Params, Array], Array]
    evaluate_actions: Callable[[Params, Array, Array], ActionEvaluation]


def perceptron_policy(observation_dim: int, action_space: Space, hidden_widths: Sequence[int] = (64, 64)) -> Policy:
    """Separate perceptrons for actor and critic, with hidden layers of `hidden_widths`.

    Discrete actions come from a softmax, continuous ones from a normal distribution with a state-independent log_std.
    """
    is_discrete = isinstance(action_space, Discrete)

    def build(key: Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        actor = Perceptron([observation_dim, *hidden_widths, value_width(action_space)], 0.01, rngs)
        critic = Perceptron([observation_dim, *hidden_widths, 1], 1.0, rngs)
        return nnx.Dict(actor=actor, critic=critic)

    init_networks, apply_networks = make_pure(build)

    def init(key: Array) -> Params:
        params = {"networks": init_networks(key)}
        return params if is_discrete else params | {"log_std": jnp.zeros(value_width(action_space), jnp.float32)}

    def networks(params: Params) -> nnx.Module:
        return apply_networks(params["networks"])

    def broadcast_log_std(params: Params, actor_output: Array) -> Array:
        return jnp.broadcast_to(params["log_std"], actor_output.shape)

    def act(params: Params, key: Array, observation: Array) -> tuple[Array, Array]:
        actor_output = networks(params)["actor"](observation)
        if is_discrete:
            action = jax.random.categorical(key, actor_output).astype(jnp.int32)
        else:
            action = actor_output + jnp.exp(broadcast_log_std(params, actor_output)) * jax.random.normal(
                key, actor_output.shape
            )
        return action, log_prob(params, actor_output, action)

    def log_prob(params: Params, actor_output: Array, action: Array) -> Array:
        if is_discrete:
            # A product: the gradient of a gather is a slow scatter on a CPU.
            return jnp.sum(jax.nn.log_softmax(actor_output) * jax.nn.one_hot(action, action_space.size), axis=-1)
        log_std = broadcast_log_std(params, actor_output)
        negative_log_prob = (
            0.5 * ((action - actor_output) * jnp.exp(-log_std)) ** 2 + log_std + 0.5 * jnp.log(2 * jnp.pi)
        )
        return -jnp.sum(negative_log_prob, axis=-1)

    def entropy(params: Params, actor_output: Array) -> Array:
        if is_discrete:
            log_probs = jax.nn.log_softmax(actor_output)
            return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        return jnp.sum(broadcast_log_std(params, actor_output) + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)

    def act_greedily(params: Params, observation: Array) -> Array:
        actor_output = networks(params)["actor"](observation)
        return jnp.argmax(actor_output, axis=-1).astype(jnp.int32) if is_discrete else actor_output

    def value(params: Params, observation: Array) -> Array:
        return networks(params)["critic"](observation)[..., 0]

    def evaluate_actions(params: Params, observation: Array, action: Array) -> ActionEvaluation:
        modules = networks(params)
        actor_output = modules["actor"](observation)
        return ActionEvaluation(
            log_prob(params, actor_output, action),
            entropy(params, actor_output),
            modules["critic"](observation)[..., 0],
        )

    return Policy(init, act, act_greedily, value, evaluate_actions)
