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
from thinking.environments.control import ControlEnv, sample_random_actions
from thinking.guide import Guide, GuideState, Path
from thinking.learning.replay_buffer import Episodes, Retention, init_buffer, insert, sample_steps
from thinking.learning.rollouts import PolicyFn, collect_episodes
from thinking.recipes.cart_pole.agent import (
    Agent,
    GuideActor,
    ObservationNormalizer,
    PolicyCarry,
    ReturnTarget,
    best_return_target,
    init_policy_carry,
)
from thinking.types import Array, Metrics, State


class Iteration(NamedTuple):
    """One course; a curriculum is a sequence of them, which is data and not code.

    Attributes:
        num_rounds: how often E episodes are collected.
        random_fraction: of the actions, from 0 to 1.
        target_fractions: each episode is asked for a share of the best average state value, drawn from this range.
    """

    num_rounds: int
    random_fraction: float
    target_fractions: tuple[float, float] = (1.0, 1.0)


class CollectionSettings(NamedTuple):
    """How courses are held.

    Attributes:
        num_episodes: E.
        num_updates: of the guide, after each collection.
        num_windows: W, windows of each update.
        window_length: states of a window.
        capacity: of the store.
        retention: what the store keeps.
        best_fraction: of the windows, drawn from the best episodes.
        discount: of the state values that the top layer pursues.
        mean_action_duration: steps that a random action is held, on average.
        update_return_to_go: whether the state value that is asked for follows what is gained; see `agent.Aim`.
        ema_decay: what one more update leaves of earlier weights in the average that acts; 0 for the newest alone.
    """

    num_episodes: int
    num_updates: int
    num_windows: int
    window_length: int
    capacity: int
    retention: Retention
    best_fraction: float
    discount: float
    mean_action_duration: float
    update_return_to_go: bool
    ema_decay: float


class ExplorationState(NamedTuple):
    """What a guide carries along that acts at random now and then: its pursuit, and the action that it holds."""

    carry: PolicyCarry
    random_action: Array
    is_random: Array


def init_agent(
    env: ControlEnv, guide: Guide, iterations: Sequence[Iteration], settings: CollectionSettings, key: Array
) -> Agent:
    """An agent that has lived nothing. Keeps the key."""
    one = jax.eval_shape(lambda: collect_episodes(env, _random_policy(env), (), jax.random.key(0), 1))
    dims = env.observation_space.dims
    scale = ObservationNormalizer(jnp.zeros(()), jnp.zeros(dims), jnp.zeros(dims))
    store = init_buffer(one, settings.capacity)
    known, worst = guide.init(key), jnp.float32(env.reward_range[0] * env.max_episode_steps)
    steps = jnp.zeros((), jnp.int32)
    history = jnp.zeros((len(iterations), 3), jnp.float32)
    return Agent(
        guide=known,
        ema_params=known,
        best_state=known,
        buffer=store,
        values=jnp.zeros_like(store.rewards),
        normalizer=scale,
        num_env_steps=steps,
        eval_return=worst,
        best_eval_return=worst,
        training_return=worst,
        history=history,
        key=key,
    )


def make_guide_step(
    env: ControlEnv, guide: Guide, iterations: Sequence[Iteration], settings: CollectionSettings
) -> Callable[[Agent, Array], tuple[Agent, Metrics]]:
    """`step(agent, index) -> (agent, metrics)`: one update.

    A course is `settings.updates` steps. Before the first of them it collects, after the last it judges.
    """
    stacked_iterations = Iteration(*map(jnp.asarray, zip(*iterations, strict=True)))

    def step(agent: Agent, index: Array) -> tuple[Agent, Metrics]:
        number, update = index // settings.num_updates, index % settings.num_updates
        course = jax.tree.map(lambda leaf: leaf[number], stacked_iterations)
        live_key, draw_key, judge_key = jax.random.split(jax.random.fold_in(agent.key, index), 3)

        def collect(agent: Agent) -> Agent:
            return _collect(env, guide, settings, agent, course, number, live_key)

        def evaluate(agent: Agent) -> Agent:
            agent = _evaluate(env, guide, settings, agent, judge_key)
            point = jnp.stack([agent.num_env_steps.astype(jnp.float32), agent.eval_return, agent.training_return])
            return agent._replace(history=agent.history.at[number].set(point))

        agent = jax.lax.cond(update == 0, collect, lambda agent: agent, agent)
        known, metrics = guide.observe(agent.guide, sample_windows(agent, settings, env, draw_key))
        agent = agent._replace(guide=known, ema_params=update_ema(agent.ema_params, known, settings.ema_decay))
        agent = jax.lax.cond(update == settings.num_updates - 1, evaluate, lambda agent: agent, agent)
        figures = {
            "return": agent.eval_return,
            "champion_return": agent.best_eval_return,
            "training_return": agent.training_return,
            "environment_steps": agent.num_env_steps.astype(jnp.float32),
        }
        return agent, figures | metrics

    return step


def update_ema(ema_state: GuideState, guide_state: GuideState, decay: float) -> GuideState:
    """The guide with weights averaged over its updates, exponentially (Polyak & Juditsky 1992).

    Args:
        ema_state: of all updates before.
        guide_state: the guide after one more; all but the weights is its own.
        decay: what the update leaves of the earlier ones, from 0 to below 1.
    """

    def layer(before: State, now: State) -> State:
        params = optax.incremental_update(now.train_state.params, before.train_state.params, 1 - decay)
        return now._replace(train_state=now.train_state._replace(params=params))

    return guide_state._replace(layers=tuple(map(layer, ema_state.layers, guide_state.layers)))


def sample_windows(agent: Agent, settings: CollectionSettings, env: ControlEnv, key: Array) -> Path:
    """Windows of the store as paths that the guide observes. Consumes the key."""
    store, length = agent.buffer, settings.window_length
    episode, start = sample_steps(store, key, settings.num_windows, settings.retention.num_best, settings.best_fraction)
    place = start[:, None] + jnp.arange(length)[None]
    inside = jnp.minimum(
        place, env.max_episode_steps - 1
    )  # the end of an episode has no action and no value of its own
    low, high = env.reward_range
    return Path(
        states=agent.normalizer(store.states[episode[:, None], jnp.minimum(place, env.max_episode_steps)]),
        length=jnp.minimum(store.length[episode] + 1 - start, length),
        actions=store.actions[episode[:, None], inside],
        rewards=(store.rewards[episode[:, None], inside] - low) / (high - low),
        values=agent.values[episode[:, None], inside],
    )


def _collect(
    env: ControlEnv,
    guide: Guide,
    settings: CollectionSettings,
    agent: Agent,
    iteration: Iteration,
    iteration_index: Array,
    key: Array,
) -> Agent:
    """Collect the episodes of a course, and keep what is worth it."""
    best = best_return_target(agent, settings.update_return_to_go)
    low, high = iteration.target_fractions
    count, actor = settings.num_episodes, GuideActor(env, guide, settings.discount)

    def initial_value(collected: Episodes) -> Array:
        return collected.values(settings.discount, env.reward_range)[:, 0]

    def one(round: Array, agent: Agent) -> Agent:
        ask_key, begin_key, live_key = jax.random.split(jax.random.fold_in(key, round), 3)
        share = jax.random.uniform(ask_key, (count,), minval=low, maxval=high)
        aim = ReturnTarget(best.value * share, settings.update_return_to_go)
        pursue = _mix_random_actions(
            env,
            actor.policy(agent, settings.update_return_to_go),
            iteration.random_fraction,
            settings.mean_action_duration,
        )
        held = sample_random_actions(env, begin_key, count)
        wanderer = ExplorationState(init_policy_carry(guide, aim, count), held, jnp.ones(count, bool))
        new = collect_episodes(env, pursue, wanderer, live_key, count)
        scale = jax.tree.map(partial(jnp.where, iteration_index == 0), agent.normalizer.update(new), agent.normalizer)
        return agent._replace(
            buffer=insert(agent.buffer, new, settings.retention, initial_value),
            normalizer=scale,
            num_env_steps=agent.num_env_steps + jnp.sum(new.length),
            training_return=agent.training_return + jnp.mean(new.returns),
        )

    agent = jax.lax.fori_loop(0, iteration.num_rounds, one, agent._replace(training_return=jnp.zeros((), jnp.float32)))
    return agent._replace(
        training_return=agent.training_return / iteration.num_rounds,
        values=agent.buffer.values(settings.discount, env.reward_range),
    )


def _evaluate(env: ControlEnv, guide: Guide, settings: CollectionSettings, agent: Agent, key: Array) -> Agent:
    """Live plain episodes, asked for the best: they tell what the guide is worth.

    They are not kept: who learns from its own unshaken ways learns to drift as it does, and never how to come back.
    """
    pursue = GuideActor(env, guide, settings.discount).policy(agent, settings.update_return_to_go)
    pursuit = init_policy_carry(guide, best_return_target(agent, settings.update_return_to_go), settings.num_episodes)
    new = collect_episodes(env, pursue, pursuit, key, settings.num_episodes)
    # Episodes may be longer here than where the guide is judged in the end, which tells the good from the better.
    whole = jnp.mean(new.returns)
    judged = jnp.mean(jnp.sum(new.rewards[:, : control.make_env(env.name).max_episode_steps], axis=1))
    wins = whole >= agent.best_eval_return
    champion = jax.tree.map(lambda now, then: jnp.where(wins, now, then), agent.ema_params, agent.best_state)
    best = jnp.maximum(whole, agent.best_eval_return)
    return agent._replace(
        best_state=champion,
        eval_return=judged,
        best_eval_return=best,
        num_env_steps=agent.num_env_steps + jnp.sum(new.length),
    )


def _random_policy(env: ControlEnv) -> PolicyFn:
    return lambda mind, key, observation, gained: (mind, sample_random_actions(env, key, observation.shape[0]))


def _mix_random_actions(
    env: ControlEnv, policy_fn: PolicyFn, random_fraction: Array, mean_action_duration: float
) -> PolicyFn:
    """Mix random actions in, each held for a while, so that they lead somewhere (Dabney et al. 2021)."""

    def act(
        exploration: ExplorationState, key: Array, observation: Array, return_so_far: Array
    ) -> tuple[ExplorationState, Array]:
        pursue_key, turn_key, share_key, action_key = jax.random.split(key, 4)
        rows = observation.shape[0]
        pursuit, action = policy_fn(exploration.carry, pursue_key, observation, return_so_far)
        turns = jax.random.uniform(turn_key, (rows,)) < 1 / mean_action_duration
        wandering = jnp.where(turns, jax.random.uniform(share_key, (rows,)) < random_fraction, exploration.is_random)
        wide = (rows,) + (1,) * (action.ndim - 1)
        held = jnp.where(turns.reshape(wide), sample_random_actions(env, action_key, rows), exploration.random_action)
        return ExplorationState(pursuit, held, wandering), jnp.where(wandering.reshape(wide), held, action)

    return act
