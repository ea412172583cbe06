"""The guide as an agent: what it knows of a control world, and how it acts when it is asked for a return.

Axes: S agents side by side (one of each seed), E episodes side by side, N places of the store, T the most steps of an
episode, C courses, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments.control import World
from thinking.guide import Guide, GuideState
from thinking.guide.hippocampus import Memory, append
from thinking.guide.react import Reaction
from thinking.learning.replay_buffer import Episodes
from thinking.learning.rollouts import Pursue
from thinking.types import Array


class Scale(NamedTuple):
    """How observations are brought to mean 0 and spread 1: sums over what the first course saw.

    Attributes:
        count: [] float32.
        total: [O].
        squares: [O].
    """

    count: Array
    total: Array
    squares: Array

    def __call__(self, observation: Array) -> Array:
        """The scaled observation [..., O]."""
        mean, spread = self._moments(observation.shape)
        return (observation - mean) / spread

    def undo(self, scaled: Array) -> Array:
        """The observation [..., O] of a scaled one."""
        mean, spread = self._moments(scaled.shape)
        return scaled * spread + mean

    def see(self, episodes: Episodes) -> "Scale":
        """With the states of more episodes in the sums."""
        real = jnp.arange(episodes.states.shape[1])[None] <= episodes.length[:, None]
        states = jnp.where(real[..., None], episodes.states, 0)
        return Scale(
            self.count + jnp.sum(real),
            self.total + jnp.sum(states, axis=(0, 1)),
            self.squares + jnp.sum(states**2, axis=(0, 1)),
        )

    def _moments(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        count = jnp.maximum(self.count, 1)
        mean = self.total / count
        spread = jnp.sqrt(jnp.maximum(self.squares / count - mean**2, 0))
        spread = jnp.where(spread > 1e-6, spread, 1.0)
        return jnp.broadcast_to(mean, shape), jnp.broadcast_to(spread, shape)


class Agent(NamedTuple):
    """All that the agent knows, and where it stands.

    It is no `RunnerState`: what learns is a guide, whose layers are kernels, each with a state of its own.

    Attributes:
        guide: what it learned.
        average: the same with weights averaged over updates, which acts: steadier than any of them.
        champion: the average of the course whose plain episodes returned most.
        store: the episodes that are kept.
        values: [N, T] the state values that were lived in them.
        scale: of observations.
        steps: [] int32, environment steps up to now, those of plain episodes included.
        judged: [] float32, mean return of the last course's plain episodes: no random actions, asked for the best.
        best: [] float32, the same of the champion.
        lived: [] float32, mean return of the last course's other episodes.
        history: [C, 3] float32, after each course: steps, judged, lived.
        key: of everything random; never changes.
    """

    guide: GuideState
    average: GuideState
    champion: GuideState
    store: Episodes
    values: Array
    scale: Scale
    steps: Array
    judged: Array
    best: Array
    lived: Array
    history: Array
    key: Array


class Aim(NamedTuple):
    """What is asked of an agent.

    Attributes:
        value: [] or [E] float32 in [0, 1], the state value to pursue at the beginning.
        paced: whether the value follows what is gained, as it would along a life of that value: with every step it
            becomes `(value - (1 - discount) * reward) / discount`. Otherwise it stays, as the average of a life.
    """

    value: Array
    paced: bool


class Pursuit(NamedTuple):
    """What an acting guide carries along.

    Attributes:
        memory: of what was seen.
        value: [E] the state value that it pursues.
        gained: [E] the return up to now.
    """

    memory: Memory
    value: Array
    gained: Array


def best_aim(agent: Agent, paced: bool) -> Aim:
    """What to ask for to get the best: the highest value that a kept episode began with, or had on average."""
    if paced:
        return Aim(jnp.max(agent.values[:, 0]), paced)
    return Aim(jnp.max(jnp.sum(agent.values, axis=1) / jnp.maximum(agent.store.length, 1)), paced)


def aim_at(agent: Agent, wanted: float | Array, paced: bool) -> Aim:
    """What to ask for to get a return: read off the kept episodes' beginnings, and paced.

    Args:
        agent: whose store tells which state values belong to which returns.
        wanted: [] the return.
        paced: how the best is asked for, which is what a return gets that no kept episode surpasses.
    """
    store, best = agent.store, best_aim(agent, paced)
    returns = jnp.where(store.length > 0, store.returns, jnp.inf)
    order = jnp.argsort(returns)
    known = jnp.sum(store.length > 0)
    # Places that hold nothing repeat the best one.
    order = order[jnp.minimum(jnp.arange(order.shape[0]), jnp.maximum(known - 1, 0))]
    value = jnp.interp(wanted, returns[order], agent.values[order, 0])
    return Aim(jnp.where(wanted >= jnp.max(store.returns), best.value, value), True)


def begin_pursuit(guide: Guide, aim: Aim, count: int) -> Pursuit:
    """E empty memories, and what is asked of each."""
    value = jnp.broadcast_to(jnp.asarray(aim.value, jnp.float32), (count,))
    return Pursuit(guide.remember(count), value, jnp.zeros(count, jnp.float32))


class Actor(NamedTuple):
    """How a guide acts in a world.

    Attributes:
        world: the task, whose rewards pace what is pursued.
        guide: its functions.
        discount: of state values.
    """

    world: World
    guide: Guide
    discount: float

    def act(
        self, agent: Agent, pursuit: Pursuit, paced: bool, observation: Array, gained: Array
    ) -> tuple[Pursuit, Reaction]:
        """What the guide does about observations [E, O], having gained [E]."""
        low, high = self.world.rewards
        reward = (gained - pursuit.gained - low) / (high - low)
        value = pursuit.value
        if paced:
            following = jnp.clip((value - (1 - self.discount) * reward) / self.discount, 0, 1)
            value = jnp.where(pursuit.memory.count > 0, following, value)
        memory = append(pursuit.memory, agent.scale(observation))
        return Pursuit(memory, value, gained), self.guide.react(agent.average, memory, value[:, None])

    def policy(self, agent: Agent, paced: bool) -> Pursue:
        """The guide as a policy without chance."""

        def pursue(pursuit: Pursuit, key: Array, observation: Array, gained: Array) -> tuple[Pursuit, Array]:
            del key  # nothing is left to chance
            pursuit, reaction = self.act(agent, pursuit, paced, observation, gained)
            return pursuit, reaction.value

        return pursue


def player(actor: Actor, agents: Agent, wanted: float | None, paced: bool, count: int) -> tuple[Callable, Any]:
    """The champions of S agents as `gymnasium_evaluation.judge` lets them play, and what all S x E carry at first.

    Args:
        actor: how they act.
        agents: what each knows, [S, ...].
        wanted: the return to ask for; None for the best.
        paced: how the best is asked for.
        count: E.
    """
    of_return = wanted is not None

    def begin(agent: Agent) -> Pursuit:
        aim = aim_at(agent, wanted, paced) if of_return else best_aim(agent, paced)
        return begin_pursuit(actor.guide, aim, count)

    def one(agent: Agent, pursuit: Pursuit, seen: Array, gained: Array) -> tuple[Pursuit, Array, dict[str, Array]]:
        champion = agent._replace(average=agent.champion)
        pursuit, reaction = actor.act(champion, pursuit, paced or of_return, seen, gained)
        notes = {"asked_value": pursuit.value}
        if len(reaction.targets) > 1:
            notes["sub_goal"] = agent.scale.undo(reaction.targets[-2])
        return pursuit, reaction.value, notes

    return lambda mind, seen, gained: jax.vmap(one)(agents, mind, seen, gained), jax.vmap(begin)(agents)
