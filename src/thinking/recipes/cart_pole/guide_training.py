"""Training the guide in control environments, by collect-and-train iterations without a policy gradient.

An iteration collects episodes into the replay buffer, then trains the guide on windows of it by hindsight relabelling:
the target of the top layer is the state value that an episode achieved. Episodes are collected with high target values
and a fraction of random actions; the first iteration acts at random.

Axes: E parallel episodes, C iterations, W windows.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.environments import control
from thinking.environments.control import ControlEnv, sample_random_actions
from thinking.guide import Guide, GuideState, Trajectories
from thinking.learning.replay_buffer import Episodes, Retention, init_buffer, insert, sample_steps
from thinking.learning.rollouts import PolicyFn, collect_episodes
from thinking.learning.statistics import init_moments
from thinking.recipes.cart_pole.agent import (
    AgentState,
    BestState,
    GuideActor,
    ObservationNormalizer,
    PolicyCarry,
    ReturnTarget,
    TargetScale,
    best_return_target,
    init_policy_carry,
    make_target_scale,
)
from thinking.types import Array, Latest, Measured, Metrics, State


class Iteration(NamedTuple):
    """One collect-and-train iteration; a sequence of them is a curriculum.

    Attributes:
        num_rounds: batches of E episodes to collect.
        random_fraction: fraction of random actions, from 0 to 1.
        target_fractions: range from which each episode draws its target, as a fraction of the best target value.
    """

    num_rounds: int
    random_fraction: float
    target_fractions: tuple[float, float] = (1.0, 1.0)


class CollectionSettings(NamedTuple):
    """Settings of all iterations.

    Attributes:
        num_episodes: E.
        num_updates: updates of the guide per iteration.
        num_windows: W, windows per update.
        window_length: states of a window.
        capacity: of the replay buffer, in episodes.
        retention: which episodes the buffer keeps.
        best_fraction: fraction of windows drawn from the best episodes.
        discount: discount factor of state values.
        mean_action_duration: mean steps that a random action is repeated.
        update_return_to_go: see `agent.ReturnTarget`.
        ema_decay: EMA decay of the parameters that act, from 0 to below 1.
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
    """The carry of a policy with random actions mixed in: the policy's own, and the current random action."""

    carry: PolicyCarry
    random_action: Array
    is_random: Array


def init_agent(
    env: ControlEnv, guide: Guide, iterations: Sequence[Iteration], settings: CollectionSettings, key: Array
) -> AgentState:
    """The initial agent, with the key stored in it."""
    episode_shape = jax.eval_shape(lambda: collect_episodes(env, _random_policy(env), (), jax.random.key(0), 1))
    dims = env.observation_space.dims
    normalizer = ObservationNormalizer(init_moments(dims))
    buffer = init_buffer(episode_shape, settings.capacity)
    guide_state, min_return = guide.init(key), jnp.float32(env.reward_range[0] * env.max_episode_steps)
    target_scale = TargetScale(jnp.zeros(settings.capacity), jnp.zeros(settings.capacity), jnp.zeros(()))
    steps = jnp.zeros((), jnp.int32)
    history = jnp.zeros((len(iterations), 3), jnp.float32)
    return AgentState(
        guide=guide_state,
        ema_guide=guide_state,
        best_state=BestState(guide_state, target_scale),
        buffer=buffer,
        values=jnp.zeros_like(buffer.rewards),
        normalizer=normalizer,
        num_env_steps=steps,
        num_eval_env_steps=steps,
        eval_return=min_return,
        best_eval_return=min_return,
        training_return=min_return,
        history=history,
        key=key,
    )


def make_guide_step(
    env: ControlEnv, guide: Guide, iterations: Sequence[Iteration], settings: CollectionSettings
) -> Callable[[AgentState, Array], tuple[AgentState, Metrics]]:
    """`step(agent, index) -> (agent, metrics)`: one update.

    An iteration is `settings.num_updates` steps: it collects before the first and evaluates after the last.
    """
    stacked_iterations = Iteration(*map(jnp.asarray, zip(*iterations, strict=True)))

    def step(agent: AgentState, index: Array) -> tuple[AgentState, Metrics]:
        number, update = index // settings.num_updates, index % settings.num_updates
        iteration = jax.tree.map(lambda leaf: leaf[number], stacked_iterations)
        rollout_key, window_key, eval_key = jax.random.split(jax.random.fold_in(agent.key, index), 3)

        def collect(agent: AgentState) -> AgentState:
            return _collect(env, guide, settings, agent, iteration, number, rollout_key)

        def evaluate(agent: AgentState) -> AgentState:
            agent = _evaluate(env, guide, settings, agent, eval_key)
            point = jnp.stack([agent.num_env_steps.astype(jnp.float32), agent.eval_return, agent.training_return])
            return agent._replace(history=agent.history.at[number].set(point))

        is_first, is_last = update == 0, update == settings.num_updates - 1
        agent = jax.lax.cond(is_first, collect, lambda agent: agent, agent)
        guide_state, metrics = guide.observe(agent.guide, sample_windows(agent, settings, env, window_key))
        agent = agent._replace(
            guide=guide_state, ema_guide=update_ema(agent.ema_guide, guide_state, settings.ema_decay)
        )
        agent = jax.lax.cond(is_last, evaluate, lambda agent: agent, agent)
        return agent, _make_metrics(agent, has_collected=is_first, has_evaluated=is_last) | metrics

    return step


def _make_metrics(agent: AgentState, *, has_collected: Array, has_evaluated: Array) -> Metrics:
    return {
        "eval/return": Measured(agent.eval_return, has_evaluated),
        "eval/best_return": Measured(agent.best_eval_return, has_evaluated),
        "rollout/return": Measured(agent.training_return, has_collected),
        "rollout/num_env_steps": Latest(agent.num_env_steps),
        "eval/num_env_steps": Latest(agent.num_eval_env_steps),
    }


def update_ema(ema_state: GuideState, guide_state: GuideState, decay: float) -> GuideState:
    """Update the EMA of the parameters (Polyak & Juditsky 1992).

    All but the parameters is taken from `guide_state`; `decay` is from 0 to below 1.
    """

    def layer(ema: State, latest: State) -> State:
        params = optax.incremental_update(latest.train_state.params, ema.train_state.params, 1 - decay)
        return latest._replace(train_state=latest.train_state._replace(params=params))

    return guide_state._replace(layers=tuple(map(layer, ema_state.layers, guide_state.layers)))


def sample_windows(agent: AgentState, settings: CollectionSettings, env: ControlEnv, key: Array) -> Trajectories:
    """Windows of the replay buffer, as trajectories for `guide.observe`. Consumes the key."""
    buffer, length = agent.buffer, settings.window_length
    episode, start = sample_steps(
        buffer, key, settings.num_windows, settings.retention.num_best, settings.best_fraction
    )
    steps = start[:, None] + jnp.arange(length)[None]
    inner_steps = jnp.minimum(steps, env.max_episode_steps - 1)  # the final state has no action and no value
    low, high = env.reward_range
    return Trajectories(
        states=agent.normalizer(buffer.states[episode[:, None], jnp.minimum(steps, env.max_episode_steps)]),
        length=jnp.minimum(buffer.length[episode] + 1 - start, length),
        actions=buffer.actions[episode[:, None], inner_steps],
        rewards=(buffer.rewards[episode[:, None], inner_steps] - low) / (high - low),
        values=agent.values[episode[:, None], inner_steps],
    )


def _collect(
    env: ControlEnv,
    guide: Guide,
    settings: CollectionSettings,
    agent: AgentState,
    iteration: Iteration,
    iteration_index: Array,
    key: Array,
) -> AgentState:
    best = best_return_target(agent, settings.update_return_to_go)
    low, high = iteration.target_fractions
    num_episodes, actor = settings.num_episodes, GuideActor(env, guide, settings.discount)

    def initial_value(collected: Episodes) -> Array:
        return collected.values(settings.discount, env.reward_range)[:, 0]

    def collect_round(round_index: Array, agent: AgentState) -> AgentState:
        target_key, action_key, rollout_key = jax.random.split(jax.random.fold_in(key, round_index), 3)
        fraction = jax.random.uniform(target_key, (num_episodes,), minval=low, maxval=high)
        return_target = ReturnTarget(best.value * fraction, settings.update_return_to_go)
        policy_fn = _mix_random_actions(
            env,
            actor.policy(agent, settings.update_return_to_go),
            iteration.random_fraction,
            settings.mean_action_duration,
        )
        first_action = sample_random_actions(env, action_key, num_episodes)
        exploration = ExplorationState(
            init_policy_carry(guide, return_target, num_episodes), first_action, jnp.ones(num_episodes, bool)
        )
        episodes = collect_episodes(env, policy_fn, exploration, rollout_key, num_episodes)
        normalizer = jax.tree.map(
            partial(jnp.where, iteration_index == 0), agent.normalizer.update(episodes), agent.normalizer
        )
        return agent._replace(
            buffer=insert(agent.buffer, episodes, settings.retention, initial_value),
            normalizer=normalizer,
            num_env_steps=agent.num_env_steps + jnp.sum(episodes.length),
            training_return=agent.training_return + jnp.mean(episodes.returns),
        )

    agent = jax.lax.fori_loop(
        0, iteration.num_rounds, collect_round, agent._replace(training_return=jnp.zeros((), jnp.float32))
    )
    return agent._replace(
        training_return=agent.training_return / iteration.num_rounds,
        values=agent.buffer.values(settings.discount, env.reward_range),
    )


def _evaluate(env: ControlEnv, guide: Guide, settings: CollectionSettings, agent: AgentState, key: Array) -> AgentState:
    """Evaluate without random actions, with the best target.

    These episodes stay out of the buffer: trained on them, the guide would never see how to recover from errors.
    """
    policy_fn = GuideActor(env, guide, settings.discount).policy(agent, settings.update_return_to_go)
    carry = init_policy_carry(guide, best_return_target(agent, settings.update_return_to_go), settings.num_episodes)
    episodes = collect_episodes(env, policy_fn, carry, key, settings.num_episodes)
    # Training episodes may be longer than Gymnasium's limit: `best_state` is chosen by the return of whole episodes.
    full_return = jnp.mean(episodes.returns)
    eval_return = jnp.mean(jnp.sum(episodes.rewards[:, : control.make_env(env.name).max_episode_steps], axis=1))
    is_best = full_return >= agent.best_eval_return
    state = BestState(agent.ema_guide, make_target_scale(agent, settings.update_return_to_go))
    best_state = jax.tree.map(lambda new, old: jnp.where(is_best, new, old), state, agent.best_state)
    best_return = jnp.maximum(full_return, agent.best_eval_return)
    return agent._replace(
        best_state=best_state,
        eval_return=eval_return,
        best_eval_return=best_return,
        num_eval_env_steps=agent.num_eval_env_steps + jnp.sum(episodes.length),
    )


def _random_policy(env: ControlEnv) -> PolicyFn:
    return lambda carry, key, observation, return_so_far: (carry, sample_random_actions(env, key, observation.shape[0]))


def _mix_random_actions(
    env: ControlEnv, policy_fn: PolicyFn, random_fraction: Array, mean_action_duration: float
) -> PolicyFn:
    """Mix in random actions, each repeated for several steps (εz-greedy, Dabney et al. 2021)."""

    def act(
        exploration: ExplorationState, key: Array, observation: Array, return_so_far: Array
    ) -> tuple[ExplorationState, Array]:
        policy_key, switch_key, random_key, action_key = jax.random.split(key, 4)
        num_envs = observation.shape[0]
        carry, action = policy_fn(exploration.carry, policy_key, observation, return_so_far)
        switches = jax.random.uniform(switch_key, (num_envs,)) < 1 / mean_action_duration
        is_random = jnp.where(
            switches, jax.random.uniform(random_key, (num_envs,)) < random_fraction, exploration.is_random
        )
        shape = (num_envs,) + (1,) * (action.ndim - 1)
        random_action = jnp.where(
            switches.reshape(shape), sample_random_actions(env, action_key, num_envs), exploration.random_action
        )
        return ExplorationState(carry, random_action, is_random), jnp.where(
            is_random.reshape(shape), random_action, action
        )

    return act
