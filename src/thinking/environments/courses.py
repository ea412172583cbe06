"""The guide as an agent in control worlds: courses of living and learning, without a gradient of the reward.

A course collects episodes; the store keeps the best of them; the guide then observes windows of what is kept. Its top
layer pursues a state value: of everything that was lived it learns what state came next on the way to what that life
was worth, and is then asked for much. Each course asks the guide of the course before, with a share of random actions;
the first acts at random alone.

Axes: E episodes collected side by side, C courses, O dimensions of an observation, W windows.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments.control import World, random_actions
from thinking.environments.rollouts import Pursue, episodes
from thinking.guide import Guide, GuideState, Path
from thinking.guide.hippocampus import Memory, append
from thinking.kernels.contract import Array, Metrics
from thinking.learning.episodes import Episodes, Keeping, draw, empty, keep


class Course(NamedTuple):
    """One course; a curriculum is a sequence of them, which is data and not code.

    Attributes:
        rounds: how often E episodes are collected.
        random_share: of the actions, from 0 to 1.
        asked: each episode is asked for a share of the best average state value, drawn from this range.
    """

    rounds: int
    random_share: float
    asked: tuple[float, float] = (1.0, 1.0)


class Settings(NamedTuple):
    """How courses are held.

    Attributes:
        episodes: E.
        updates: of the guide, after each collection.
        windows: W, windows of each update.
        window: states of a window.
        places: of the store.
        keeping: what the store keeps.
        best_share: of the windows, drawn from the best episodes.
        discount: of the state values that the top layer pursues.
        hold: steps that a random action is held, on average.
    """

    episodes: int
    updates: int
    windows: int
    window: int
    places: int
    keeping: Keeping
    best_share: float
    discount: float
    hold: float


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
        count = jnp.maximum(self.count, 1)
        mean = self.total / count
        spread = jnp.sqrt(jnp.maximum(self.squares / count - mean**2, 0))
        return (observation - mean) / jnp.where(spread > 1e-6, spread, 1.0)

    def undo(self, scaled: Array) -> Array:
        """The observation [..., O] of a scaled one."""
        count = jnp.maximum(self.count, 1)
        mean = self.total / count
        spread = jnp.sqrt(jnp.maximum(self.squares / count - mean**2, 0))
        return scaled * jnp.where(spread > 1e-6, spread, 1.0) + mean


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
    key: Array


class Wanderer(NamedTuple):
    """What an acting guide carries along: its memory, and the random action that it holds."""

    memory: Memory
    held: Array
    wandering: Array


def agent(world: World, guide: Guide, settings: Settings, key: Array) -> Agent:
    """An agent that has lived nothing."""
    one = jax.eval_shape(lambda: _collect(world, _random(world), (), jax.random.key(0), 1))
    dims = world.observation.dims
    scale = Scale(jnp.zeros(()), jnp.zeros(dims), jnp.zeros(dims))
    store = empty(one, settings.places)
    known, worst = guide.init(key), jnp.float32(world.rewards[0] * world.limit)
    steps = jnp.zeros((), jnp.int32)
    return Agent(known, known, store, jnp.zeros_like(store.rewards), scale, steps, worst, worst, key)


def learner(
    world: World, guide: Guide, curriculum: Sequence[Course], settings: Settings
) -> Callable[[Agent, Array], tuple[Agent, Metrics]]:
    """`step(agent, index) -> (agent, metrics)`: one update.

    A course is `settings.updates` steps. Before the first of them it collects, after the last it judges.
    """
    courses = Course(*map(jnp.asarray, zip(*curriculum, strict=True)))

    def step(agent: Agent, index: Array) -> tuple[Agent, Metrics]:
        number, update = index // settings.updates, index % settings.updates
        course = jax.tree.map(lambda leaf: leaf[number], courses)
        live_key, draw_key, judge_key = jax.random.split(jax.random.fold_in(agent.key, index), 3)

        def live(agent: Agent) -> Agent:
            return _live(world, guide, settings, agent, course, number, live_key)

        def judge(agent: Agent) -> Agent:
            return _judge(world, guide, settings, agent, judge_key)

        agent = jax.lax.cond(update == 0, live, lambda agent: agent, agent)
        known, metrics = guide.observe(agent.guide, windows(agent, settings, world, draw_key))
        agent = agent._replace(guide=known)
        agent = jax.lax.cond(update == settings.updates - 1, judge, lambda agent: agent, agent)
        figures = {
            "return": agent.judged,
            "champion_return": agent.best,
            "best_return": jnp.max(agent.store.returns),
            "environment_steps": agent.steps.astype(jnp.float32),
        }
        return agent, figures | metrics

    return step


def windows(agent: Agent, settings: Settings, world: World, key: Array) -> Path:
    """Windows of the store as paths that the guide observes. Consumes the key."""
    store, length = agent.store, settings.window
    episode, start = draw(store, key, settings.windows, settings.keeping.best, settings.best_share)
    place = start[:, None] + jnp.arange(length)
    inside = jnp.minimum(place, world.limit - 1)  # the end of an episode has no action and no value of its own
    low, high = world.rewards
    return Path(
        states=agent.scale(store.states[episode[:, None], jnp.minimum(place, world.limit)]),
        length=jnp.minimum(store.length[episode] + 1 - start, length),
        actions=store.actions[episode[:, None], inside],
        rewards=(store.rewards[episode[:, None], inside] - low) / (high - low),
        values=agent.values[episode[:, None], inside],
    )


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


def pursuing(guide: Guide, agent: Agent, ask: Callable[[Array], Array]) -> Pursue:
    """The guide as a policy.

    Args:
        guide: its functions.
        agent: what it knows.
        ask: `ask(gained [E]) -> value [E]`, the state value to pursue now.
    """

    def pursue(memory: Memory, key: Array, observation: Array, gained: Array) -> tuple[Memory, Array]:
        del key  # nothing is left to chance
        memory = append(memory, agent.scale(observation))
        return memory, guide.react(agent.guide, memory, ask(gained)[:, None]).value

    return pursue


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


def _live(
    world: World, guide: Guide, settings: Settings, agent: Agent, course: Course, number: Array, key: Array
) -> Agent:
    """Collect the episodes of a course, and keep what is worth it."""
    best = best_value(agent)
    low, high = course.asked
    count = settings.episodes

    def one(round: Array, agent: Agent) -> Agent:
        ask_key, begin_key, live_key = jax.random.split(jax.random.fold_in(key, round), 3)
        value = best * jax.random.uniform(ask_key, (count,), minval=low, maxval=high)
        pursue = _wandering(world, pursuing(guide, agent, lambda _: value), course.random_share, settings.hold)
        wanderer = Wanderer(guide.remember(count), random_actions(world, begin_key, count), jnp.ones(count, bool))
        new = _collect(world, pursue, wanderer, live_key, count)
        return _kept(agent, new, settings)._replace(scale=_see(agent.scale, new, number == 0))

    agent = jax.lax.fori_loop(0, course.rounds, one, agent)
    return agent._replace(values=agent.store.values(settings.discount, world.rewards))


def _judge(world: World, guide: Guide, settings: Settings, agent: Agent, key: Array) -> Agent:
    """Live plain episodes, asked for the best: they tell what the guide is worth, and are kept as all others."""
    pursue = pursuing(guide, agent, asking(agent, None))
    new = _collect(world, pursue, guide.remember(settings.episodes), key, settings.episodes)
    judged = jnp.mean(new.returns)
    wins = judged >= agent.best
    champion = jax.tree.map(lambda now, then: jnp.where(wins, now, then), agent.guide, agent.champion)
    best = jnp.maximum(judged, agent.best)
    return _kept(agent, new, settings)._replace(champion=champion, judged=judged, best=best)


def _kept(agent: Agent, new: Episodes, settings: Settings) -> Agent:
    """The agent with new episodes in its store; their values are still to be told."""
    return agent._replace(store=keep(agent.store, new, settings.keeping), steps=agent.steps + jnp.sum(new.length))


def _collect(world: World, pursue: Pursue, mind: object, key: Array, count: int) -> Episodes:
    return episodes(world, pursue, mind, key, count)


def _random(world: World) -> Pursue:
    return lambda mind, key, observation, gained: (mind, random_actions(world, key, observation.shape[0]))


def _wandering(world: World, pursue: Pursue, share: Array, hold: float) -> Pursue:
    """Mix random actions in, each held for a while, so that they lead somewhere (Dabney et al. 2021)."""

    def act(wanderer: Wanderer, key: Array, observation: Array, gained: Array) -> tuple[Wanderer, Array]:
        pursue_key, turn_key, share_key, action_key = jax.random.split(key, 4)
        rows = observation.shape[0]
        memory, action = pursue(wanderer.memory, pursue_key, observation, gained)
        turns = jax.random.uniform(turn_key, (rows,)) < 1 / hold
        wandering = jnp.where(turns, jax.random.uniform(share_key, (rows,)) < share, wanderer.wandering)
        wide = (rows,) + (1,) * (action.ndim - 1)
        held = jnp.where(turns.reshape(wide), random_actions(world, action_key, rows), wanderer.held)
        return Wanderer(memory, held, wandering), jnp.where(wandering.reshape(wide), held, action)

    return act


def _see(scale: Scale, new: Episodes, where: Array) -> Scale:
    """Add the states of new episodes to the sums."""
    real = jnp.arange(new.states.shape[1]) <= new.length[:, None]
    states = jnp.where(real[..., None], new.states, 0)
    added = Scale(
        scale.count + jnp.sum(real),
        scale.total + jnp.sum(states, axis=(0, 1)),
        scale.squares + jnp.sum(states**2, axis=(0, 1)),
    )
    return jax.tree.map(lambda new, old: jnp.where(where, new, old), added, scale)
