"""Actor-critic policies over observation vectors.

Axes: B rows (any number of leading axes), O observation dimensions, A dimensions of a continuous action.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flax import nnx

from thinking.networks.action_distributions import make_distribution
from thinking.networks.perceptron import Perceptron
from thinking.networks.pure import make_pure
from thinking.types import Array, Params, Space, value_width


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

    Actions come from `networks.action_distributions`.
    """
    distribution = make_distribution(action_space)

    def build(key: Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        actor = Perceptron([observation_dim, *hidden_widths, value_width(action_space)], 0.01, rngs)
        critic = Perceptron([observation_dim, *hidden_widths, 1], 1.0, rngs)
        return nnx.Dict(actor=actor, critic=critic)

    init_networks, apply_networks = make_pure(build)

    def init(key: Array) -> Params:
        return {"networks": init_networks(key)} | distribution.init()

    def networks(params: Params) -> nnx.Module:
        return apply_networks(params["networks"])

    def act(params: Params, key: Array, observation: Array) -> tuple[Array, Array]:
        output = networks(params)["actor"](observation)
        action = distribution.sample(params, key, output)
        return action, distribution.log_prob(params, output, action)

    def act_greedily(params: Params, observation: Array) -> Array:
        return distribution.mode(networks(params)["actor"](observation))

    def value(params: Params, observation: Array) -> Array:
        return networks(params)["critic"](observation)[..., 0]

    def evaluate_actions(params: Params, observation: Array, action: Array) -> ActionEvaluation:
        modules = networks(params)
        output = modules["actor"](observation)
        return ActionEvaluation(
            distribution.log_prob(params, output, action),
            distribution.entropy(params, output),
            modules["critic"](observation)[..., 0],
        )

    return Policy(init, act, act_greedily, value, evaluate_actions)
