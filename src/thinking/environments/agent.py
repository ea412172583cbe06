"""The guide as an agent: what it knows of a control world, and how it acts when it is asked for a return.

Axes: S agents side by side (one of each seed), E episodes side by side, N places of the store, T the most steps of an
episode, C courses, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments.rollouts import Pursue
from thinking.guide import Guide, GuideState
from thinking.guide.hippocampus import Memory, append
from thinking.guide.react import Reaction
from thinking.kernels.contract import Array
from thinking.learning.episodes import Episodes


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

    Attributes:
        guide: what it learned.
        champion: the guide of the course whose plain episodes returned most.
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


def best_value(agent: Agent) -> Array:
    """[] the highest average state value of a kept episode: what to ask for to get the best."""
    return jnp.max(jnp.sum(agent.values, axis=1) / jnp.maximum(agent.store.length, 1))


def value_of_return(agent: Agent, wanted: Array) -> Array:
    """The state value to ask for where a return is still wanted [...]: read off the kept episodes' beginnings."""
    store = agent.store
    returns = jnp.where(store.length > 0, store.returns, jnp.inf)
    order = jnp.argsort(returns)
    known = jnp.sum(store.length > 0)
    last = jnp.maximum(known - 1, 0)
    # Places that hold nothing repeat the best one.
    order = order[jnp.minimum(jnp.arange(order.shape[0]), last)]
    return jnp.interp(wanted, returns[order], agent.values[order, 0])


def asking(agent: Agent, wanted: float | None) -> Callable[[Array], Array]:
    """What to ask for, to get a return.

    Args:
        agent: whose store tells which state values belong to which returns.
        wanted: the return; None, or one that no kept episode surpasses, for the best there is. Any other is asked for
            anew at every step, less what was gained already.
    """
    best = best_value(agent)
    if wanted is None:
        return lambda gained: jnp.full(gained.shape, best)
    beyond = wanted >= jnp.max(agent.store.returns)
    return lambda gained: jnp.where(beyond, best, value_of_return(agent, wanted - gained))


def act(guide: Guide, agent: Agent, memory: Memory, observation: Array, value: Array) -> tuple[Memory, Reaction]:
    """What the guide does about observations [E, O], pursuing state values [E]."""
    memory = append(memory, agent.scale(observation))
    return memory, guide.react(agent.guide, memory, value[:, None])


def pursuing(guide: Guide, agent: Agent, ask: Callable[[Array], Array]) -> Pursue:
    """The guide as a policy without chance.

    Args:
        guide: its functions.
        agent: what it knows.
        ask: `ask(gained [E]) -> value [E]`, the state value to pursue now.
    """

    def pursue(memory: Memory, key: Array, observation: Array, gained: Array) -> tuple[Memory, Array]:
        del key  # nothing is left to chance
        memory, reaction = act(guide, agent, memory, observation, ask(gained))
        return memory, reaction.value

    return pursue


def player(guide: Guide, agents: Agent, wanted: float | None, count: int) -> tuple[Callable, Any]:
    """The champions of S agents as `judging.judge` lets them play, and the memories of all S x E at the beginning.

    Args:
        guide: its functions.
        agents: what each knows, [S, ...].
        wanted: the return to ask for; None for the best.
        count: E.
    """

    def one(agent: Agent, memory: Memory, seen: Array, gained: Array) -> tuple[Memory, Array, dict[str, Array]]:
        value = asking(agent, wanted)(gained)
        memory, reaction = act(guide, agent._replace(guide=agent.champion), memory, seen, value)
        notes = {"asked_value": value}
        if len(reaction.targets) > 1:
            notes["sub_goal"] = agent.scale.undo(reaction.targets[-2])
        return memory, reaction.value, notes

    rows = agents.steps.shape[0]
    memory = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), guide.remember(count))
    return lambda memory, seen, gained: jax.vmap(one)(agents, memory, seen, gained), memory
