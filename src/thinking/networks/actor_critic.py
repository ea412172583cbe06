"""Actor-critic policies over vectors: what to do, how likely that was, and what the state is worth.

Axes: B rows (any number of leading axes), O dimensions of an observation, A dimensions of a continuous action.
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
    """What a policy says of actions; the shape of each is that of the rewards.

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
        act: `act(params, key, observation [B, O]) -> (action, log_prob [B])`, drawn; consumes the key.
        act_greedily: `best(params, observation) -> action`, the likeliest.
        value: `value(params, observation) -> [B]`.
        evaluate_actions: `judge(params, observation, action) -> Judgement`.
    """

    init: Callable[[Array], Params]
    act: Callable[[Params, Array, Array], tuple[Array, Array]]
    act_greedily: Callable[[Params, Array], Array]
    value: Callable[[Params, Array], Array]
    evaluate_actions: Callable[[Params, Array, Array], ActionEvaluation]


def perceptron_policy(observation_dim: int, action_space: Space, hidden_widths: Sequence[int] = (64, 64)) -> Policy:
    """Actor and critic as two perceptrons that share nothing.

    Discrete actions are drawn from a softmax, continuous ones from a normal distribution whose spread is a parameter
    of its own.

    Args:
        observation_dim: O.
        action_space: what can be done.
        hidden_widths: of the hidden layers.
    """
    discrete = isinstance(action_space, Discrete)

    def build(key: Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        actor = Perceptron([observation_dim, *hidden_widths, value_width(action_space)], 0.01, rngs)
        critic = Perceptron([observation_dim, *hidden_widths, 1], 1.0, rngs)
        return nnx.Dict(actor=actor, critic=critic)

    begin, networks_of = make_pure(build)

    def init(key: Array) -> Params:
        params = {"networks": begin(key)}
        return params if discrete else params | {"log_spread": jnp.zeros(value_width(action_space), jnp.float32)}

    def networks(params: Params) -> nnx.Module:
        return networks_of(params["networks"])

    def log_spread(params: Params, actor_output: Array) -> Array:
        return jnp.broadcast_to(params["log_spread"], actor_output.shape)

    def act(params: Params, key: Array, observation: Array) -> tuple[Array, Array]:
        said = networks(params)["actor"](observation)
        if discrete:
            chosen = jax.random.categorical(key, said).astype(jnp.int32)
        else:
            chosen = said + jnp.exp(log_spread(params, said)) * jax.random.normal(key, said.shape)
        return chosen, log_prob(params, said, chosen)

    def log_prob(params: Params, actor_output: Array, action: Array) -> Array:
        if discrete:
            # A product, as a gather's gradient is a slow scatter on a CPU.
            return jnp.sum(jax.nn.log_softmax(actor_output) * jax.nn.one_hot(action, action_space.size), axis=-1)
        log = log_spread(params, actor_output)
        surprise = 0.5 * ((action - actor_output) * jnp.exp(-log)) ** 2 + log + 0.5 * jnp.log(2 * jnp.pi)
        return -jnp.sum(surprise, axis=-1)

    def entropy(params: Params, actor_output: Array) -> Array:
        if discrete:
            logs = jax.nn.log_softmax(actor_output)
            return -jnp.sum(jnp.exp(logs) * logs, axis=-1)
        return jnp.sum(log_spread(params, actor_output) + 0.5 * jnp.log(2 * jnp.pi * jnp.e), axis=-1)

    def best(params: Params, observation: Array) -> Array:
        said = networks(params)["actor"](observation)
        return jnp.argmax(said, axis=-1).astype(jnp.int32) if discrete else said

    def value(params: Params, observation: Array) -> Array:
        return networks(params)["critic"](observation)[..., 0]

    def judge(params: Params, observation: Array, action: Array) -> ActionEvaluation:
        made = networks(params)
        said = made["actor"](observation)
        return ActionEvaluation(
            log_prob(params, said, action), entropy(params, said), made["critic"](observation)[..., 0]
        )

    return Policy(init, act, best, value, judge)
