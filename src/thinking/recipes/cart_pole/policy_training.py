"""PPO and REINFORCE in control environments.

Axes: T steps, E parallel environments, P evaluations.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.environments.control import ControlEnv
from thinking.learning.policy_gradient import PolicyBatch, UpdateFn
from thinking.learning.replay_buffer import Episodes
from thinking.learning.returns import bootstrapped_returns, generalized_advantages
from thinking.learning.rollouts import (
    PolicyFn,
    Trajectory,
    VectorEnvState,
    collect_episodes,
    init_envs,
    mean_recent_return,
    rollout,
)
from thinking.learning.statistics import clear_masked
from thinking.networks.actor_critic import Policy
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Latest, Measured, Metrics, Params


class EnvRecord(NamedTuple):
    """The `env` of a `RunnerState`: environments, and statistics of them.

    Attributes:
        envs: E environments.
        num_env_steps: [] int32, environment steps of training so far.
        num_eval_env_steps: [] int32, environment steps of evaluations so far.
        eval_return: [] float32, mean return of the last evaluation.
        history: [P, 3] float32, at each evaluation: `num_env_steps`, evaluation return, mean training return, which is
            -inf before the first episode ends.
    """

    envs: VectorEnvState
    num_env_steps: Array
    num_eval_env_steps: Array
    eval_return: Array
    history: Array


TrainStepFn = Callable[[RunnerState, Array], tuple[RunnerState, Metrics]]
"""`step(state, index) -> (state, metrics)`: collect, then update."""

NUM_EVAL_EPISODES = 16
"""Episodes of an evaluation."""


class EvalSchedule(NamedTuple):
    """When a policy is evaluated: after every `interval` updates, and after the last of `num_updates`."""

    interval: int
    num_updates: int

    @property
    def num_evaluations(self) -> int:
        """P."""
        return -(-self.num_updates // self.interval)

    def is_due(self, index: Array) -> Array:
        """[] bool, whether the policy is evaluated after the update `index`."""
        return ((index + 1) % self.interval == 0) | (index + 1 == self.num_updates)


def init_policy_training(
    env: ControlEnv,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    num_envs: int,
    num_evaluations: int,
    key: Array,
) -> RunnerState:
    """The initial state, with the key stored in it, and room in `history` for `num_evaluations`."""
    init_key, env_key = jax.random.split(key)
    params = policy.init(init_key)
    min_return = jnp.float32(env.reward_range[0] * env.max_episode_steps)
    env_record = EnvRecord(
        envs=init_envs(env, env_key, num_envs),
        num_env_steps=jnp.zeros((), jnp.int32),
        num_eval_env_steps=jnp.zeros((), jnp.int32),
        eval_return=min_return,
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
    clip_values: bool,
    schedule: EvalSchedule,
) -> TrainStepFn:
    """One PPO update per step, from T steps of each environment; values are bootstrapped at truncation.

    Args:
        env, policy: the environment and the actor-critic.
        update: of `learning.policy_gradient.ppo`.
        rollout_length: T.
        discount: discount factor.
        gae_lambda: lambda of generalized advantage estimation.
        clip_values: whether `update` limits the change of values.
        schedule: of evaluations.
    """

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        rollout_key, update_key, eval_key = jax.random.split(jax.random.fold_in(runner_state.key, index), 3)
        params, env_record = runner_state.train_state.params, runner_state.env
        envs, trajectory = rollout(
            env,
            lambda carry, key, observation: (carry, *policy.act(params, key, observation)),
            rollout_key,
            env_record.envs,
            rollout_length,
        )
        batch = make_ppo_batch(policy, params, trajectory, discount, gae_lambda, clip_values=clip_values)
        train_state, metrics = update(runner_state.train_state, batch, update_key)
        env_record = env_record._replace(envs=envs, num_env_steps=env_record.num_env_steps + batch.mask.size)
        training_return = Measured(mean_recent_return(envs), envs.num_finished > 0)
        env_record = _evaluate_if_due(
            env,
            make_greedy_policy(policy, train_state.params),
            env_record,
            training_return,
            schedule.is_due(index),
            index // schedule.interval,
            eval_key,
        )
        return runner_state._replace(train_state=train_state, env=env_record), _make_metrics(
            env_record, training_return, schedule.is_due(index)
        ) | metrics

    return step


def make_reinforce_step(
    env: ControlEnv,
    policy: Policy,
    update: UpdateFn,
    *,
    use_baseline: bool,
    num_episodes: int,
    discount: float,
    schedule: EvalSchedule,
) -> TrainStepFn:
    """One REINFORCE update per step, from `num_episodes` whole episodes.

    Args:
        env, policy: the environment and the actor-critic.
        update: of `learning.policy_gradient.reinforce`.
        use_baseline: as of `update`, which trains the critic or does not.
        num_episodes: E.
        discount: discount factor.
        schedule: of evaluations.
    """

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        rollout_key, update_key, eval_key = jax.random.split(jax.random.fold_in(runner_state.key, index), 3)
        params = runner_state.train_state.params

        def policy_fn(carry: tuple, key: Array, observation: Array, return_so_far: Array) -> tuple[tuple, Array]:
            return carry, policy.act(params, key, observation)[0]

        episodes = collect_episodes(env, policy_fn, (), rollout_key, num_episodes)
        batch = make_reinforce_batch(policy, params, episodes, discount, use_baseline=use_baseline)
        train_state, metrics = update(runner_state.train_state, batch, update_key)
        env_record = runner_state.env._replace(num_env_steps=runner_state.env.num_env_steps + jnp.sum(episodes.length))
        training_return = Measured(jnp.mean(episodes.returns), jnp.bool_(True))
        env_record = _evaluate_if_due(
            env,
            make_greedy_policy(policy, train_state.params),
            env_record,
            training_return,
            schedule.is_due(index),
            index // schedule.interval,
            eval_key,
        )
        return runner_state._replace(train_state=train_state, env=env_record), _make_metrics(
            env_record, training_return, schedule.is_due(index)
        ) | metrics

    return step


def make_ppo_batch(
    policy: Policy, params: Params, trajectory: Trajectory, discount: float, gae_lambda: float, *, clip_values: bool
) -> PolicyBatch:
    """Generalized advantages of transitions [T, E] and their value targets, as rows [T E].

    The values are part of the batch if their change is to be clipped.
    """
    values = policy.value(params, trajectory.observation)
    advantages = generalized_advantages(
        trajectory.reward,
        values,
        policy.value(params, trajectory.final_observation),
        trajectory.terminated,
        trajectory.terminated | trajectory.truncated,
        discount,
        gae_lambda,
    )
    mask = jnp.ones(values.shape, jnp.float32)
    batch = PolicyBatch(
        trajectory.observation,
        trajectory.action,
        trajectory.extras,
        advantages,
        advantages + values,
        mask,
        value=values if clip_values else None,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)


def make_reinforce_batch(
    policy: Policy, params: Params, episodes: Episodes, discount: float, *, use_baseline: bool
) -> PolicyBatch:
    """Returns-to-go of episodes [E, T].

    With a baseline, a truncated episode is bootstrapped with the critic's value of its final state. Without one the
    critic is never trained, and its value would be noise. The return then ends with the episode: its gradient is an
    unbiased estimate for the return within the step limit, which is what an evaluation measures.
    """
    final_state = jnp.take_along_axis(episodes.states, episodes.length[:, None, None], axis=1)[:, 0]
    final_value = policy.value(params, final_state) if use_baseline else jnp.zeros(len(final_state))
    returns = bootstrapped_returns(episodes.rewards, episodes.length, episodes.terminated, final_value, discount)
    states = clear_masked(episodes.states[:, :-1], episodes.valid[..., None])
    mask = episodes.valid.astype(jnp.float32)
    # An update by returns reads no log-probabilities of the behaviour policy.
    return PolicyBatch(states, episodes.actions, jnp.zeros_like(mask), returns, returns, mask)


def make_greedy_policy(policy: Policy, params: object) -> PolicyFn:
    """The deterministic policy that is evaluated."""
    return lambda carry, key, observation, return_so_far: (carry, policy.act_greedily(params, observation))


def _evaluate_if_due(
    env: ControlEnv,
    policy_fn: PolicyFn,
    env_record: EnvRecord,
    training_return: Measured,
    is_due: Array,
    number: Array,
    key: Array,
) -> EnvRecord:
    """The record, with an evaluation in row `number` of its history if one is due."""

    def evaluate(env_record: EnvRecord) -> EnvRecord:
        episodes = collect_episodes(env, policy_fn, (), key, NUM_EVAL_EPISODES)
        eval_return = jnp.mean(episodes.returns)
        recent_return = jnp.where(training_return.is_measured, training_return.value, -jnp.inf)
        point = jnp.stack([env_record.num_env_steps.astype(jnp.float32), eval_return, recent_return])
        return env_record._replace(
            num_eval_env_steps=env_record.num_eval_env_steps + jnp.sum(episodes.length),
            eval_return=eval_return,
            history=env_record.history.at[number].set(point),
        )

    return jax.lax.cond(is_due, evaluate, lambda env: env, env_record)


def _make_metrics(env_record: EnvRecord, training_return: Measured, is_due: Array) -> Metrics:
    return {
        "eval/return": Measured(env_record.eval_return, is_due),
        "rollout/return": training_return,
        "rollout/num_env_steps": Latest(env_record.num_env_steps),
        "eval/num_env_steps": Latest(env_record.num_eval_env_steps),
    }
