"""The guide as an agent in control worlds: courses of living and learning, without a gradient of the reward.

A course collects episodes; the store keeps the best of them; the guide then observes windows of what is kept. Its top
layer pursues a state value: of everything that was lived it learns what state came next on the way to what that life
was worth, and is then asked for much. Each course asks the guide of the course before, with a share of random actions;
the first acts at random alone.

Axes: E episodes collected side by side, C courses, O dimensions of an observation, W windows.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.environments import control
from thinking.environments.control import World, random_actions
from thinking.guide import Guide, GuideState, Path
from thinking.learning.replay_buffer import Episodes, Keeping, draw, empty, keep
from thinking.learning.rollouts import Pursue, episodes
from thinking.recipes.cart_pole.agent import Actor, Agent, Aim, Pursuit, Scale, begin_pursuit, best_aim
from thinking.types import Array, Metrics, State


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
        paced: whether the state value that is asked for follows what is gained; see `agent.Aim`.
        average: what one more update leaves of earlier weights in the average that acts; 0 for the newest alone.
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
    paced: bool
    average: float


class Wanderer(NamedTuple):
    """What a guide carries along that acts at random now and then: its pursuit, and the action that it holds."""

    pursuit: Pursuit
    held: Array
    wandering: Array


def init_agent(world: World, guide: Guide, curriculum: Sequence[Course], settings: Settings, key: Array) -> Agent:
    """An agent that has lived nothing. Keeps the key."""
    one = jax.eval_shape(lambda: episodes(world, _random(world), (), jax.random.key(0), 1))
    dims = world.observation.dims
    scale = Scale(jnp.zeros(()), jnp.zeros(dims), jnp.zeros(dims))
    store = empty(one, settings.places)
    known, worst = guide.init(key), jnp.float32(world.rewards[0] * world.limit)
    steps = jnp.zeros((), jnp.int32)
    history = jnp.zeros((len(curriculum), 3), jnp.float32)
    return Agent(
        guide=known,
        average=known,
        champion=known,
        store=store,
        values=jnp.zeros_like(store.rewards),
        scale=scale,
        steps=steps,
        judged=worst,
        best=worst,
        lived=worst,
        history=history,
        key=key,
    )


def guide_step(
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
            agent = _judge(world, guide, settings, agent, judge_key)
            point = jnp.stack([agent.steps.astype(jnp.float32), agent.judged, agent.lived])
            return agent._replace(history=agent.history.at[number].set(point))

        agent = jax.lax.cond(update == 0, live, lambda agent: agent, agent)
        known, metrics = guide.observe(agent.guide, windows(agent, settings, world, draw_key))
        agent = agent._replace(guide=known, average=averaged(agent.average, known, settings.average))
        agent = jax.lax.cond(update == settings.updates - 1, judge, lambda agent: agent, agent)
        figures = {
            "return": agent.judged,
            "champion_return": agent.best,
            "training_return": agent.lived,
            "environment_steps": agent.steps.astype(jnp.float32),
        }
        return agent, figures | metrics

    return step


def averaged(average: GuideState, learned: GuideState, decay: float) -> GuideState:
    """The guide with weights averaged over its updates, exponentially (Polyak & Juditsky 1992).

    Args:
        average: of all updates before.
        learned: the guide after one more; all but the weights is its own.
        decay: what the update leaves of the earlier ones, from 0 to below 1.
    """

    def layer(before: State, now: State) -> State:
        params = optax.incremental_update(now.train_state.params, before.train_state.params, 1 - decay)
        return now._replace(train_state=now.train_state._replace(params=params))

    return learned._replace(layers=tuple(map(layer, average.layers, learned.layers)))


def windows(agent: Agent, settings: Settings, world: World, key: Array) -> Path:
    """Windows of the store as paths that the guide observes. Consumes the key."""
    store, length = agent.store, settings.window
    episode, start = draw(store, key, settings.windows, settings.keeping.best, settings.best_share)
    place = start[:, None] + jnp.arange(length)[None]
    inside = jnp.minimum(place, world.limit - 1)  # the end of an episode has no action and no value of its own
    low, high = world.rewards
    return Path(
        states=agent.scale(store.states[episode[:, None], jnp.minimum(place, world.limit)]),
        length=jnp.minimum(store.length[episode] + 1 - start, length),
        actions=store.actions[episode[:, None], inside],
        rewards=(store.rewards[episode[:, None], inside] - low) / (high - low),
        values=agent.values[episode[:, None], inside],
    )


def _live(
    world: World, guide: Guide, settings: Settings, agent: Agent, course: Course, number: Array, key: Array
) -> Agent:
    """Collect the episodes of a course, and keep what is worth it."""
    best = best_aim(agent, settings.paced)
    low, high = course.asked
    count, actor = settings.episodes, Actor(world, guide, settings.discount)

    def worth(lived: Episodes) -> Array:
        return lived.values(settings.discount, world.rewards)[:, 0]

    def one(round: Array, agent: Agent) -> Agent:
        ask_key, begin_key, live_key = jax.random.split(jax.random.fold_in(key, round), 3)
        share = jax.random.uniform(ask_key, (count,), minval=low, maxval=high)
        aim = Aim(best.value * share, settings.paced)
        pursue = _wandering(world, actor.policy(agent, settings.paced), course.random_share, settings.hold)
        held = random_actions(world, begin_key, count)
        wanderer = Wanderer(begin_pursuit(guide, aim, count), held, jnp.ones(count, bool))
        new = episodes(world, pursue, wanderer, live_key, count)
        scale = jax.tree.map(partial(jnp.where, number == 0), agent.scale.see(new), agent.scale)
        return agent._replace(
            store=keep(agent.store, new, settings.keeping, worth),
            scale=scale,
            steps=agent.steps + jnp.sum(new.length),
            lived=agent.lived + jnp.mean(new.returns),
        )

    agent = jax.lax.fori_loop(0, course.rounds, one, agent._replace(lived=jnp.zeros((), jnp.float32)))
    return agent._replace(
        lived=agent.lived / course.rounds, values=agent.store.values(settings.discount, world.rewards)
    )


def _judge(world: World, guide: Guide, settings: Settings, agent: Agent, key: Array) -> Agent:
    """Live plain episodes, asked for the best: they tell what the guide is worth.

    They are not kept: who learns from its own unshaken ways learns to drift as it does, and never how to come back.
    """
    pursue = Actor(world, guide, settings.discount).policy(agent, settings.paced)
    pursuit = begin_pursuit(guide, best_aim(agent, settings.paced), settings.episodes)
    new = episodes(world, pursue, pursuit, key, settings.episodes)
    # Episodes may be longer here than where the guide is judged in the end, which tells the good from the better.
    whole = jnp.mean(new.returns)
    judged = jnp.mean(jnp.sum(new.rewards[:, : control.world(world.name).limit], axis=1))
    wins = whole >= agent.best
    champion = jax.tree.map(lambda now, then: jnp.where(wins, now, then), agent.average, agent.champion)
    best = jnp.maximum(whole, agent.best)
    return agent._replace(champion=champion, judged=judged, best=best, steps=agent.steps + jnp.sum(new.length))


def _random(world: World) -> Pursue:
    return lambda mind, key, observation, gained: (mind, random_actions(world, key, observation.shape[0]))


def _wandering(world: World, pursue: Pursue, share: Array, hold: float) -> Pursue:
    """Mix random actions in, each held for a while, so that they lead somewhere (Dabney et al. 2021)."""

    def act(wanderer: Wanderer, key: Array, observation: Array, gained: Array) -> tuple[Wanderer, Array]:
        pursue_key, turn_key, share_key, action_key = jax.random.split(key, 4)
        rows = observation.shape[0]
        pursuit, action = pursue(wanderer.pursuit, pursue_key, observation, gained)
        turns = jax.random.uniform(turn_key, (rows,)) < 1 / hold
        wandering = jnp.where(turns, jax.random.uniform(share_key, (rows,)) < share, wanderer.wandering)
        wide = (rows,) + (1,) * (action.ndim - 1)
        held = jnp.where(turns.reshape(wide), random_actions(world, action_key, rows), wanderer.held)
        return Wanderer(pursuit, held, wandering), jnp.where(wandering.reshape(wide), held, action)

    return act
