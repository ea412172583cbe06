"""The guide as an agent: what it knows of a control world, and how it acts when it is asked for a return.

Axes: S agents side by side (one of each seed), E episodes side by side, N places of the store, T the most steps of an
episode, C courses, O dimensions of an observation.
"""

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
from thinking.types import Array


class ObservationNormalizer(NamedTuple):
    """How observations are brought to mean 0 and spread 1: sums over what the first course saw.

    Attributes:
        count: [] float32.
        total: [O].
        total_of_squares: [O].
    """

    count: Array
    total: Array
    total_of_squares: Array

    def __call__(self, observation: Array) -> Array:
        """The scaled observation [..., O]."""
        mean, spread = self._mean_and_std(observation.shape)
        return (observation - mean) / spread

    def denormalize(self, normalized: Array) -> Array:
        """The observation [..., O] of a scaled one."""
        mean, spread = self._mean_and_std(normalized.shape)
        return normalized * spread + mean

    def update(self, episodes: Episodes) -> "ObservationNormalizer":
        """With the states of more episodes in the sums."""
        real = jnp.arange(episodes.states.shape[1])[None] <= episodes.length[:, None]
        states = jnp.where(real[..., None], episodes.states, 0)
        return ObservationNormalizer(
            self.count + jnp.sum(real),
            self.total + jnp.sum(states, axis=(0, 1)),
            self.total_of_squares + jnp.sum(states**2, axis=(0, 1)),
        )

    def _mean_and_std(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        count = jnp.maximum(self.count, 1)
        mean = self.total / count
        spread = jnp.sqrt(jnp.maximum(self.total_of_squares / count - mean**2, 0))
        spread = jnp.where(spread > 1e-6, spread, 1.0)
        return jnp.broadcast_to(mean, shape), jnp.broadcast_to(spread, shape)


class Agent(NamedTuple):
    """All that the agent knows, and where it stands.

    It is no `RunnerState`: what learns is a guide, whose layers are kernels, each with a state of its own.

    Attributes:
        guide: what it learned.
        ema_params: the same with weights averaged over updates, which acts: steadier than any of them.
        best_state: the average of the course whose plain episodes returned most.
        buffer: the episodes that are kept.
        values: [N, T] the state values that were lived in them.
        normalizer: of observations.
        num_env_steps: [] int32, environment steps up to now, those of plain episodes included.
        eval_return: [] float32, mean return of the last course's plain episodes: no random actions, asked for the best.
        best_eval_return: [] float32, the same of the champion.
        training_return: [] float32, mean return of the last course's other episodes.
        history: [C, 3] float32, after each course: steps, judged, lived.
        key: of everything random; never changes.
    """

    guide: GuideState
    ema_params: GuideState
    best_state: GuideState
    buffer: Episodes
    values: Array
    normalizer: ObservationNormalizer
    num_env_steps: Array
    eval_return: Array
    best_eval_return: Array
    training_return: Array
    history: Array
    key: Array


class ReturnTarget(NamedTuple):
    """What is asked of an agent.

    Attributes:
        value: [] or [E] float32 in [0, 1], the state value to pursue at the beginning.
        update_return_to_go: whether the value follows what is gained, as it would along a life of that value: with every step it
            becomes `(value - (1 - discount) * reward) / discount`. Otherwise it stays, as the average of a life.
    """

    value: Array
    update_return_to_go: bool


class PolicyCarry(NamedTuple):
    """What an acting guide carries along.

    Attributes:
        memory: of what was seen.
        target_value: [E] the state value that it pursues.
        return_so_far: [E] the return up to now.
    """

    memory: Memory
    target_value: Array
    return_so_far: Array


def best_return_target(agent: Agent, update_return_to_go: bool) -> ReturnTarget:
    """What to ask for to get the best: the highest value that a kept episode began with, or had on average."""
    if update_return_to_go:
        return ReturnTarget(jnp.max(agent.values[:, 0]), update_return_to_go)
    return ReturnTarget(
        jnp.max(jnp.sum(agent.values, axis=1) / jnp.maximum(agent.buffer.length, 1)), update_return_to_go
    )


def make_return_target(agent: Agent, target_return: float | Array, update_return_to_go: bool) -> ReturnTarget:
    """What to ask for to get a return: read off the kept episodes' beginnings, and paced.

    Args:
        agent: whose store tells which state values belong to which returns.
        target_return: [] the return.
        update_return_to_go: how the best is asked for, which is what a return gets that no kept episode surpasses.
    """
    store, best = agent.buffer, best_return_target(agent, update_return_to_go)
    returns = jnp.where(store.length > 0, store.returns, jnp.inf)
    order = jnp.argsort(returns)
    known = jnp.sum(store.length > 0)
    # Places that hold nothing repeat the best one.
    order = order[jnp.minimum(jnp.arange(order.shape[0]), jnp.maximum(known - 1, 0))]
    value = jnp.interp(target_return, returns[order], agent.values[order, 0])
    return ReturnTarget(jnp.where(target_return >= jnp.max(store.returns), best.value, value), True)


def init_policy_carry(guide: Guide, return_target: ReturnTarget, num_envs: int) -> PolicyCarry:
    """E empty memories, and what is asked of each."""
    value = jnp.broadcast_to(jnp.asarray(return_target.value, jnp.float32), (num_envs,))
    return PolicyCarry(guide.init_memory(num_envs), value, jnp.zeros(num_envs, jnp.float32))


class GuideActor(NamedTuple):
    """How a guide acts in a world.

    Attributes:
        env: the task, whose rewards pace what is pursued.
        guide: its functions.
        discount: of state values.
    """

    env: ControlEnv
    guide: Guide
    discount: float

    def act(
        self, agent: Agent, carry: PolicyCarry, update_return_to_go: bool, observation: Array, return_so_far: Array
    ) -> tuple[PolicyCarry, Reaction]:
        """What the guide does about observations [E, O], having gained [E]."""
        low, high = self.env.reward_range
        reward = (return_so_far - carry.return_so_far - low) / (high - low)
        value = carry.target_value
        if update_return_to_go:
            following = jnp.clip((value - (1 - self.discount) * reward) / self.discount, 0, 1)
            value = jnp.where(carry.memory.count > 0, following, value)
        memory = append(carry.memory, agent.normalizer(observation))
        return PolicyCarry(memory, value, return_so_far), self.guide.react(agent.ema_params, memory, value[:, None])

    def policy(self, agent: Agent, update_return_to_go: bool) -> PolicyFn:
        """The guide as a policy without chance."""

        def policy_fn(
            carry: PolicyCarry, key: Array, observation: Array, return_so_far: Array
        ) -> tuple[PolicyCarry, Array]:
            del key  # nothing is left to chance
            carry, reaction = self.act(agent, carry, update_return_to_go, observation, return_so_far)
            return carry, reaction.value

        return policy_fn


def make_play_fn(
    actor: GuideActor, agents: Agent, target_return: float | None, update_return_to_go: bool, num_envs: int
) -> tuple[Callable, Any]:
    """The champions of S agents as `gymnasium_evaluation.judge` lets them play, and what all S x E carry at first.

    Args:
        actor: how they act.
        agents: what each knows, [S, ...].
        target_return: the return to ask for; None for the best.
        update_return_to_go: how the best is asked for.
        num_envs: E.
    """
    of_return = target_return is not None

    def init_carry(agent: Agent) -> PolicyCarry:
        aim = (
            make_return_target(agent, target_return, update_return_to_go)
            if of_return
            else best_return_target(agent, update_return_to_go)
        )
        return init_policy_carry(actor.guide, aim, num_envs)

    def one(
        agent: Agent, carry: PolicyCarry, observation: Array, return_so_far: Array
    ) -> tuple[PolicyCarry, Array, dict[str, Array]]:
        champion = agent._replace(ema_params=agent.best_state)
        carry, reaction = actor.act(champion, carry, update_return_to_go or of_return, observation, return_so_far)
        notes = {"asked_value": carry.target_value}
        if len(reaction.targets) > 1:
            notes["sub_goal"] = agent.normalizer.denormalize(reaction.targets[-2])
        return carry, reaction.value, notes

    return lambda mind, seen, gained: jax.vmap(one)(agents, mind, seen, gained), jax.vmap(init_carry)(agents)
