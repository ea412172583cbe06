"""The agent of a control environment: a guide, conditioned on a target return.

A guide is a hierarchical goal-conditioned planner. To react is to plan in a closed loop, one action per observation.

Axes: S seeds, E parallel episodes, N buffer capacity, T maximum episode length, C iterations, O observation dimensions.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments.control import ControlEnv
from thinking.guide import Guide, GuideState
from thinking.guide.hippocampus import Memory, append
from thinking.guide.react import Reaction
from thinking.learning.replay_buffer import Episodes
from thinking.learning.rollouts import PolicyFn
from thinking.learning.statistics import Moments, update_moments
from thinking.types import Array


class ObservationNormalizer(NamedTuple):
    """Normalizes observations to mean 0 and standard deviation 1, as they are in the first iteration.

    An observation that did not vary is only centered.

    Attributes:
        moments: of the first iteration's states.
    """

    moments: Moments

    def __call__(self, observation: Array) -> Array:
        """The normalized observation [..., O]."""
        mean, std = self._mean_and_std(observation.shape)
        return (observation - mean) / std

    def denormalize(self, normalized: Array) -> Array:
        """The observation [..., O] of a normalized one."""
        mean, std = self._mean_and_std(normalized.shape)
        return normalized * std + mean

    def update(self, episodes: Episodes) -> "ObservationNormalizer":
        """Add the states of episodes to the moments."""
        valid = jnp.arange(episodes.states.shape[1])[None] <= episodes.length[:, None]
        states = episodes.states.reshape(-1, episodes.states.shape[2])
        return ObservationNormalizer(update_moments(self.moments, states, valid.reshape(-1).astype(jnp.float32)))

    def _mean_and_std(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        std = self.moments.std
        return jnp.broadcast_to(self.moments.mean, shape), jnp.broadcast_to(jnp.where(std > 0, std, 1.0), shape)


class TargetScale(NamedTuple):
    """Which state value belongs to which return, by the episodes in the replay buffer.

    Attributes:
        returns: [N] float32, ascending; empty slots repeat the highest.
        initial_values: [N] float32, state values at the first step of these episodes.
        best_value: [] float32, the highest target, of `best_return_target`.
    """

    returns: Array
    initial_values: Array
    best_value: Array


class BestState(NamedTuple):
    """What acted in the best evaluation, with the targets that it had then.

    Attributes:
        guide: `AgentState.ema_guide` of that time.
        target_scale: the scale of that time; its highest target is the one that was evaluated.
    """

    guide: GuideState
    target_scale: TargetScale


class AgentState(NamedTuple):
    """The training state.

    It is no `RunnerState`, as each layer of the guide is a kernel (the learner of one layer) with a state of its own.

    Attributes:
        guide: the state that is trained.
        ema_guide: a whole state: `guide` with the EMA of its parameters; this one acts.
        best_state: of the iteration with the highest evaluation return.
        buffer: the replay buffer.
        values: [N, T] discounted state values of its episodes.
        normalizer: of observations.
        num_env_steps: [] int32, environment steps of training so far.
        num_eval_env_steps: [] int32, environment steps of evaluations so far.
        eval_return: [] float32, mean return of the last evaluation: no random actions, the highest target.
        best_eval_return: [] float32, the same of `best_state`.
        training_return: [] float32, mean return of the last iteration's training episodes.
        history: [C, 3] float32, after each iteration: `num_env_steps`, evaluation return, training return.
        key: constant; each step folds its index in.
    """

    guide: GuideState
    ema_guide: GuideState
    best_state: BestState
    buffer: Episodes
    values: Array
    normalizer: ObservationNormalizer
    num_env_steps: Array
    num_eval_env_steps: Array
    eval_return: Array
    best_eval_return: Array
    training_return: Array
    history: Array
    key: Array


class ReturnTarget(NamedTuple):
    """The target of an agent.

    Attributes:
        value: [] or [E] float32 in [0, 1], target state value at the first step.
        update_return_to_go: [] bool, whether the target follows the Bellman equation: after each step it becomes
            `(value - (1 - discount) * reward) / discount`. Otherwise it is constant, the mean value of an episode.
    """

    value: Array
    update_return_to_go: bool | Array


class PolicyCarry(NamedTuple):
    """The policy's carry between steps.

    Attributes:
        memory: recent normalized observations.
        target_value: [E].
        return_so_far: [E], undiscounted.
    """

    memory: Memory
    target_value: Array
    return_so_far: Array


def best_return_target(agent: AgentState, update_return_to_go: bool) -> ReturnTarget:
    """The highest target: the maximum over the buffer of an episode's first value, or of its mean value."""
    if update_return_to_go:
        return ReturnTarget(jnp.max(agent.values[:, 0]), update_return_to_go)
    return ReturnTarget(
        jnp.max(jnp.sum(agent.values, axis=1) / jnp.maximum(agent.buffer.length, 1)), update_return_to_go
    )


def make_target_scale(agent: AgentState, update_return_to_go: bool) -> TargetScale:
    """The scale of the agent's replay buffer; `update_return_to_go` as of `best_return_target`."""
    buffer = agent.buffer
    returns = jnp.where(buffer.length > 0, buffer.returns, jnp.inf)
    num_episodes = jnp.sum(buffer.length > 0)
    order = jnp.argsort(returns)[jnp.minimum(jnp.arange(returns.shape[0]), jnp.maximum(num_episodes - 1, 0))]
    best = best_return_target(agent, update_return_to_go)
    return TargetScale(returns[order], agent.values[order, 0], best.value)


def make_return_target(scale: TargetScale, target_return: float | Array, update_return_to_go: bool) -> ReturnTarget:
    """The target for a return.

    Args:
        scale: maps returns to state values, with linear interpolation.
        target_return: [] undiscounted return; from the scale's highest on, the target is the highest one, as it was
            evaluated. A lower one is updated by the rewards.
        update_return_to_go: of the highest target.
    """
    is_highest = target_return >= scale.returns[-1]
    value = jnp.interp(target_return, scale.returns, scale.initial_values)
    return ReturnTarget(jnp.where(is_highest, scale.best_value, value), ~is_highest | update_return_to_go)


def init_policy_carry(guide: Guide, return_target: ReturnTarget, num_envs: int) -> PolicyCarry:
    """E empty memories with their targets."""
    value = jnp.broadcast_to(jnp.asarray(return_target.value, jnp.float32), (num_envs,))
    return PolicyCarry(guide.init_memory(num_envs), value, jnp.zeros(num_envs, jnp.float32))


class GuideActor(NamedTuple):
    """A guide that acts in an environment; `discount` is that of state values."""

    env: ControlEnv
    guide: Guide
    discount: float

    def act(
        self,
        agent: AgentState,
        carry: PolicyCarry,
        update_return_to_go: bool | Array,
        observation: Array,
        return_so_far: Array,
    ) -> tuple[PolicyCarry, Reaction]:
        """React to observations [E, O], given the returns so far [E]; `update_return_to_go` of the `ReturnTarget`."""
        low, high = self.env.reward_range
        reward = (return_so_far - carry.return_so_far - low) / (high - low)
        value = carry.target_value
        following = jnp.clip((value - (1 - self.discount) * reward) / self.discount, 0, 1)
        value = jnp.where((carry.memory.count > 0) & update_return_to_go, following, value)
        memory = append(carry.memory, agent.normalizer(observation))
        return PolicyCarry(memory, value, return_so_far), self.guide.react(agent.ema_guide, memory, value[:, None])

    def policy(self, agent: AgentState, update_return_to_go: bool) -> PolicyFn:
        """The guide as a deterministic policy."""

        def policy_fn(
            carry: PolicyCarry, key: Array, observation: Array, return_so_far: Array
        ) -> tuple[PolicyCarry, Array]:
            del key  # deterministic
            carry, reaction = self.act(agent, carry, update_return_to_go, observation, return_so_far)
            return carry, reaction.value

        return policy_fn


def make_policy_fn(
    actor: GuideActor, agents: AgentState, target_return: float | None, update_return_to_go: bool, num_envs: int
) -> tuple[Callable, Any]:
    """The best states of S agents, as `gymnasium_evaluation.evaluate_in_gymnasium` runs them.

    Args:
        actor: the environment and the guide.
        agents: [S, ...].
        target_return: target return; None for the highest target, by which the best state was chosen.
        update_return_to_go: of `best_return_target`.
        num_envs: E.

    Returns:
        The policy function, and its initial carry [S, E, ...].
    """

    def choose_target(agent: AgentState) -> ReturnTarget:
        scale = agent.best_state.target_scale
        return make_return_target(scale, jnp.inf if target_return is None else target_return, update_return_to_go)

    return_targets = jax.vmap(choose_target)(agents)

    def play_one(
        agent: AgentState, update: Array, carry: PolicyCarry, observation: Array, return_so_far: Array
    ) -> tuple[PolicyCarry, Array, dict[str, Array]]:
        best_agent = agent._replace(ema_guide=agent.best_state.guide)
        carry, reaction = actor.act(best_agent, carry, update, observation, return_so_far)
        extras = {"target_value": carry.target_value}
        if len(reaction.targets) > 1:
            extras["sub_goal"] = agent.normalizer.denormalize(reaction.targets[-2])
        return carry, reaction.value, extras

    carry = jax.vmap(lambda return_target: init_policy_carry(actor.guide, return_target, num_envs))(return_targets)
    return functools.partial(jax.vmap(play_one), agents, return_targets.update_return_to_go), carry
