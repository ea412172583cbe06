"""Actor-critic policies with a memory: blocks whose mixers carry a state from step to step.

Axes: B rows, T steps, O observation dimensions, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from thinking.networks.action_distributions import make_distribution
from thinking.networks.actor_critic import ActionEvaluation
from thinking.networks.blocks import Block, BlockConfig
from thinking.networks.mixers import Mixer, RecurrentInputs, make_mixer
from thinking.networks.pure import make_pure
from thinking.types import Array, Params, Space, State, value_width


class RecurrentPolicyInputs(NamedTuple):
    """Rows of steps for `RecurrentPolicy.evaluate_actions`.

    Attributes:
        state: of the policy before the first step, a PyTree of arrays [B, ...].
        observation: [B, T, O].
        is_start: [B, T] bool, steps that begin an episode; the state of the steps before is forgotten.
    """

    state: State
    observation: Array
    is_start: Array


class RecurrentPolicy(NamedTuple):
    """A policy's pure functions; `state` is what it remembers, a PyTree of arrays [B, ...].

    Attributes:
        init: `init(key) -> params`; consumes the key.
        init_state: `init_state(rows) -> state` at the start of an episode.
        act: `act(params, key, state, observation [B, O]) -> (state, action, log_prob [B])` samples; consumes the key.
        act_greedily: `act_greedily(params, state, observation) -> (state, action)`, the mode.
        value: `value(params, state, observation) -> [B]`, of an observation that follows the state.
        evaluate_actions: `evaluate_actions(params, inputs, action [B, T]) -> ActionEvaluation` of arrays [B, T].
    """

    init: Callable[[Array], Params]
    init_state: Callable[[int], State]
    act: Callable[[Params, Array, State, Array], tuple[State, Array, Array]]
    act_greedily: Callable[[Params, State, Array], tuple[State, Array]]
    value: Callable[[Params, State, Array], Array]
    evaluate_actions: Callable[[Params, RecurrentPolicyInputs, Array], ActionEvaluation]


def recurrent_policy(
    observation_dim: int, action_space: Space, mixers: Sequence[str | Mixer], block: BlockConfig
) -> RecurrentPolicy:
    """Two networks with a block for each mixer: an actor and a critic, each with a memory of its own.

    In a shared network the errors of values, which are large, would disturb the actor.

    Args:
        observation_dim: O.
        action_space: discrete or a box.
        mixers: recurrences of `thinking.networks.mixers`, by name or value.
        block: the shape of a block.

    Raises:
        ValueError: for attention, whose memory grows, for an unknown mixer, or without one.
    """
    layer_mixers = [make_mixer(mixer) for mixer in mixers]
    if not layer_mixers or any(mixer.init_state is None for mixer in layer_mixers):
        names = ", ".join(mixer.name for mixer in layer_mixers) or "none"
        raise ValueError(f"recurrent_policy: mixers {names}: give at least one, each with a state; attention has none")
    distribution = make_distribution(action_space)

    def build(key: Array) -> nnx.Module:
        rngs = nnx.Rngs(key)
        # A first policy that is nearly uniform.
        actor = _Network(observation_dim, value_width(action_space), 0.01, layer_mixers, block, rngs)
        return nnx.Dict(actor=actor, critic=_Network(observation_dim, 1, 1.0, layer_mixers, block, rngs))

    init_networks, apply_networks = make_pure(build)

    def init(key: Array) -> Params:
        return {"networks": init_networks(key)} | distribution.init()

    def init_state(rows: int) -> State:
        return {name: [mixer.init_state(block, rows) for mixer in layer_mixers] for name in ("actor", "critic")}

    def run_rows(params: Params, inputs: RecurrentPolicyInputs) -> tuple[State, Array, Array]:
        """The state after the rows, what the actor computes [B, T, A], and values [B, T]."""
        networks = apply_networks(params["networks"])
        actor_state, output = networks["actor"](inputs.state["actor"], inputs.observation, inputs.is_start)
        critic_state, value = networks["critic"](inputs.state["critic"], inputs.observation, inputs.is_start)
        return {"actor": actor_state, "critic": critic_state}, output, value[..., 0]

    def step(params: Params, state: State, observation: Array) -> tuple[State, Array, Array]:
        is_start = jnp.zeros((len(observation), 1), bool)
        state, output, value = run_rows(params, RecurrentPolicyInputs(state, observation[:, None], is_start))
        return state, output[:, 0], value[:, 0]

    def act(params: Params, key: Array, state: State, observation: Array) -> tuple[State, Array, Array]:
        state, output, _ = step(params, state, observation)
        action = distribution.sample(params, key, output)
        return state, action, distribution.log_prob(params, output, action)

    def act_greedily(params: Params, state: State, observation: Array) -> tuple[State, Array]:
        state, output, _ = step(params, state, observation)
        return state, distribution.mode(output)

    def value(params: Params, state: State, observation: Array) -> Array:
        return step(params, state, observation)[2]

    def evaluate_actions(params: Params, inputs: RecurrentPolicyInputs, action: Array) -> ActionEvaluation:
        _, output, value = run_rows(params, inputs)
        return ActionEvaluation(
            distribution.log_prob(params, output, action), distribution.entropy(params, output), value
        )

    return RecurrentPolicy(init, init_state, act, act_greedily, value, evaluate_actions)


class _Network(nnx.Module):
    """Blocks over observations, and a head."""

    def __init__(
        self,
        observation_dim: int,
        num_outputs: int,
        head_scale: float,
        mixers: Sequence[Mixer],
        block: BlockConfig,
        rngs: nnx.Rngs,
    ) -> None:
        # Biases as large as the inputs: blocks normalize their input, and without a bias the scale of an observation
        # would be lost.
        self.in_proj = nnx.Linear(observation_dim, block.width, bias_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.blocks = nnx.List([Block(block, rngs, mixer.build) for mixer in mixers])
        self.norm = nnx.RMSNorm(block.width, rngs=rngs)
        orthogonal = nnx.initializers.orthogonal(head_scale)
        self.head = nnx.Linear(block.width, num_outputs, kernel_init=orthogonal, rngs=rngs)

    def __call__(self, state: list[Any], observation: Array, is_start: Array) -> tuple[list[Any], Array]:
        """The state after rows of observations [B, T, O], and the outputs [B, T, num_outputs]."""
        x = self.in_proj(observation)
        positions = jnp.arange(observation.shape[1])[None]
        is_valid, after = jnp.ones_like(is_start), []
        for block, before in zip(self.blocks, state, strict=True):
            x, aux = block(x, positions, RecurrentInputs(before, is_start, is_valid))
            after.append(aux.state)
        return after, self.head(self.norm(x).astype(jnp.float32))
