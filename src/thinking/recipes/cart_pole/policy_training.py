"""PPO and REINFORCE in control worlds.

Axes: T steps, E worlds side by side, O dimensions of an observation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.environments.control import ControlEnv
from thinking.learning.policy_gradient import PolicyBatch, UpdateFn
from thinking.learning.returns import generalized_advantages, returns_to_go
from thinking.learning.rollouts import (
    PolicyFn,
    VectorEnvState,
    collect_episodes,
    init_envs,
    mean_recent_return,
    rollout,
)
from thinking.networks.actor_critic import Policy
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Metrics


class EnvRecord(NamedTuple):
    """Worlds that run along with a training, and what is counted of them: the `env` of its `RunnerState`.

    Attributes:
        envs: under way.
        num_env_steps: [] int32, environment steps up to now.
        eval_return: [] float32, mean return of the last test episodes, which are not learned from.
        history: [P, 3] float32, at each judgement: steps, judged, mean return of training episodes.
    """

    envs: VectorEnvState
    num_env_steps: Array
    eval_return: Array
    history: Array


TrainStepFn = Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]
"""`step(state, index) -> (state, metrics)`: collect, and learn from that."""

NUM_EVAL_EPISODES = 16
"""Test episodes of a judgement."""


def init_policy_training(
    env: ControlEnv,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    num_envs: int,
    num_evaluations: int,
    key: Array,
) -> RunnerState:
    """A policy that has learned nothing, in so many worlds, which will be judged so often. Keeps the key."""
    init_key, begin_key = jax.random.split(key)
    params = policy.init(init_key)
    worst = jnp.float32(env.reward_range[0] * env.max_episode_steps)
    env_record = EnvRecord(
        envs=init_envs(env, begin_key, num_envs),
        num_env_steps=jnp.zeros((), jnp.int32),
        eval_return=worst,
        history=jnp.zeros((num_evaluations, 3), jnp.float32),
    )
    return RunnerState(init_train_state(params, optimizer), key, env=env_record)


def make_ppo_step(
    env: ControlEnv,
    policy: Policy,
    update: UpdateFn,
    *,
    rollout_length: int,
    discount: float,
    gae_lambda: float,
    eval_interval: int,
) -> TrainStepFn:
    """Learn from T steps of each world, whose ends are told apart: bootstrapped across truncation.

    Args:
        env: the task.
        policy: what acts.
        update: of `learning.policy_gradient.ppo`.
        rollout_length: T.
        discount: of rewards.
        gae_lambda: lambda of the advantages.
        eval_interval: steps between two judgements.
    """

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        live_key, learn_key, judge_key = jax.random.split(jax.random.fold_in(runner_state.key, index), 3)
        params, env_record = runner_state.train_state.params, runner_state.env
        worlds, lived = rollout(
            env, lambda key, seen: policy.act(params, key, seen), live_key, env_record.envs, rollout_length
        )
        values = policy.value(params, lived.observation)
        ended = lived.terminated | lived.truncated
        advantages = generalized_advantages(
            lived.reward,
            values,
            policy.value(params, lived.final_observation),
            lived.terminated,
            ended,
            discount,
            gae_lambda,
        )
        mask = jnp.ones(values.shape, jnp.float32)
        happened = PolicyBatch(lived.observation, lived.action, lived.extras, advantages, advantages + values, mask)
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), happened)
        train_state, metrics = update(runner_state.train_state, rows, learn_key)
        env_record = env_record._replace(envs=worlds, num_env_steps=env_record.num_env_steps + values.size)
        trained = mean_recent_return(worlds)
        env_record = _evaluate_if_due(
            env, make_greedy_policy(policy, train_state.params), env_record, trained, index, eval_interval, judge_key
        )
        return runner_state._replace(train_state=train_state, env=env_record), _make_metrics(
            env_record, trained
        ) | metrics

    return step


def make_reinforce_step(
    env: ControlEnv, policy: Policy, update: UpdateFn, *, num_episodes: int, discount: float, eval_interval: int
) -> TrainStepFn:
    """Learn from `num_episodes` whole episodes.

    Args:
        env: the task.
        policy: what acts.
        update: of `learning.policy_gradient.reinforce`.
        num_episodes: E.
        discount: of rewards.
        eval_interval: steps between two judgements.
    """

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        live_key, learn_key, judge_key = jax.random.split(jax.random.fold_in(runner_state.key, index), 3)
        params = runner_state.train_state.params

        def policy_fn(carry: tuple, key: Array, observation: Array, return_so_far: Array) -> tuple[tuple, Array]:
            return carry, policy.act(params, key, observation)[0]

        lived = collect_episodes(env, policy_fn, (), live_key, num_episodes)
        # What a truncated episode would still have gained, its last state's value tells.
        last = jnp.take_along_axis(lived.states, lived.length[:, None, None], axis=1)[:, 0]
        further = jnp.where(lived.terminated, 0.0, policy.value(params, last))
        final = jnp.arange(env.max_episode_steps)[None] == lived.length[:, None] - 1
        gains = returns_to_go(lived.rewards + jnp.where(final, discount * further[:, None], 0), discount)
        mask = lived.valid.astype(jnp.float32)
        happened = PolicyBatch(lived.states[:, :-1], lived.actions, mask, gains, gains, mask)
        train_state, metrics = update(runner_state.train_state, happened, learn_key)
        env_record = runner_state.env._replace(num_env_steps=runner_state.env.num_env_steps + jnp.sum(lived.length))
        trained = jnp.mean(lived.returns)
        env_record = _evaluate_if_due(
            env, make_greedy_policy(policy, train_state.params), env_record, trained, index, eval_interval, judge_key
        )
        return runner_state._replace(train_state=train_state, env=env_record), _make_metrics(
            env_record, trained
        ) | metrics

    return step


def make_greedy_policy(policy: Policy, params: object) -> PolicyFn:
    """The policy without chance, as it is judged."""
    return lambda mind, key, observation, gained: (mind, policy.act_greedily(params, observation))


def _evaluate_if_due(
    env: ControlEnv,
    policy_fn: PolicyFn,
    env_record: EnvRecord,
    training_return: Array,
    index: Array,
    eval_interval: int,
    key: Array,
) -> EnvRecord:
    def evaluate(env_record: EnvRecord) -> EnvRecord:
        judged = jnp.mean(collect_episodes(env, policy_fn, (), key, NUM_EVAL_EPISODES).returns)
        point = jnp.stack([env_record.num_env_steps.astype(jnp.float32), judged, training_return])
        return env_record._replace(eval_return=judged, history=env_record.history.at[index // eval_interval].set(point))

    return jax.lax.cond(index % eval_interval == eval_interval - 1, evaluate, lambda env: env, env_record)


def _make_metrics(env_record: EnvRecord, training_return: Array) -> Metrics:
    return {
        "return": env_record.eval_return,
        "training_return": training_return,
        "environment_steps": env_record.num_env_steps.astype(jnp.float32),
    }
