"""Training of one kind of network by PPO, all seeds at once.

Axes: S seeds, E environments.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.environment import Environment
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult
from thinking.learning.policy_gradient import UpdateFn
from thinking.learning.recurrent_rollouts import collect_recurrent_batch
from thinking.learning.replay_buffer import Episodes
from thinking.learning.rollouts import collect_episodes, init_envs, mean_recent_return
from thinking.networks.blocks import BlockConfig
from thinking.networks.recurrent_policy import RecurrentPolicy, recurrent_policy
from thinking.recipes.ppo_updates import build_ppo
from thinking.recipes.rl_memory.config import Config, PPOConfig
from thinking.recipes.rl_memory.environments import EnvSpec, make_env_spec
from thinking.recipes.seed_training import train_seeds
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Latest, Measured, Metrics, Params, State

CHUNK = 10
"""Updates per chunk."""
_EVAL_INDEX = 2**31
"""Folded into a seed's key for the episodes of evaluations; no update has it."""


class BestPolicy(NamedTuple):
    """The parameters with the highest evaluation return so far; the latest of equals.

    Attributes:
        params: the parameters.
        mean_return: [] float32, their evaluation return; -inf before the first evaluation.
        num_eval_env_steps: [] int32, environment steps of all evaluations so far.
    """

    params: Params
    mean_return: Array
    num_eval_env_steps: Array


def keep_best(best: BestPolicy, params: Params, episodes: Episodes) -> BestPolicy:
    """The best policy after parameters were evaluated in these episodes; the later of equals."""
    mean_return = jnp.mean(episodes.returns)
    num_env_steps = best.num_eval_env_steps + jnp.sum(episodes.length)
    new, old = BestPolicy(params, mean_return, num_env_steps), best._replace(num_eval_env_steps=num_env_steps)
    return jax.tree.map(lambda *leaves: jnp.where(mean_return >= best.mean_return, *leaves), new, old)


def count_updates(settings: PPOConfig) -> int:
    """Updates that take `num_steps` environment steps, or fewer by less than one; at least one."""
    return max(1, settings.num_steps // (settings.num_envs * settings.rollout_length))


def build_policy(config: Config, env_spec: EnvSpec, network: str) -> RecurrentPolicy:
    """A policy of one kind of network for the environment."""
    model = config.model
    block = BlockConfig(model.width, model.num_heads, feed_forward=2 * model.width)
    return recurrent_policy(env_spec.observation_dim, env_spec.action_space, [network] * model.num_layers, block)


def train_policies(config: Config, run: Run, network: str) -> TrainResult:
    """Train policies of all seeds; the state of the result is a `RunnerState` of leaves [S, ...].

    Its `best` is a `BestPolicy`, whose parameters are those to use.

    Raises:
        RunError: as `experiment.training_loop.train`.
    """
    env_spec, settings = make_env_spec(config), config.ppo
    env, policy = env_spec.env, build_policy(config, env_spec, network)
    num_updates = count_updates(settings)
    update, optimizer = build_ppo(
        policy.evaluate_actions,
        settings,
        learning_rate=config.optimizer.learning_rate,
        max_gradient_norm=settings.max_gradient_norm,
        num_updates=num_updates,
    )

    def init(key: Array) -> RunnerState:
        init_key, env_key = jax.random.split(key)
        envs = init_envs(env, env_key, settings.num_envs, policy.init_state(settings.num_envs))
        params = policy.init(init_key)
        best = BestPolicy(params, jnp.float32(-jnp.inf), jnp.int32(0))
        return RunnerState(init_train_state(params, optimizer), key, env=envs, best=best)

    return train_seeds(
        config,
        run,
        network,
        init=init,
        step=_make_step(config, env, policy, update, num_updates),
        steps=num_updates,
        chunk=min(CHUNK, num_updates),
        progress_metric="rollout/return",
    )


def _make_step(
    config: Config, env: Environment, policy: RecurrentPolicy, update: UpdateFn, num_updates: int
) -> Callable:
    settings, selection = config.ppo, config.selection

    def evaluate(params: Params, key: Array) -> Episodes:
        """Episodes of greedy actions, from the same starts at every call."""

        def play(state: State, key: Array, observation: Array, return_so_far: Array) -> tuple[State, Array]:
            return policy.act_greedily(params, state, observation)

        count = selection.num_episodes
        key = jax.random.fold_in(key, _EVAL_INDEX)
        return collect_episodes(env, play, policy.init_state(count), key, count)

    def select(best: BestPolicy, params: Params, key: Array) -> tuple[BestPolicy, Array]:
        episodes = evaluate(params, key)
        return keep_best(best, params, episodes), jnp.mean(episodes.returns)

    def step(runner_state: RunnerState, index: Array) -> tuple[RunnerState, Metrics]:
        rollout_key, update_key = jax.random.split(jax.random.fold_in(runner_state.key, index))
        envs, batch = collect_recurrent_batch(
            env,
            policy,
            runner_state.train_state.params,
            rollout_key,
            runner_state.env,
            settings.rollout_length,
            discount=settings.discount,
            gae_lambda=settings.gae_lambda,
        )
        train_state, metrics = update(runner_state.train_state, batch, update_key)
        is_due = ((index + 1) % selection.interval == 0) | (index + 1 == num_updates)
        best, eval_return = jax.lax.cond(
            is_due,
            select,
            lambda best, params, key: (best, jnp.float32(0)),
            runner_state.best,
            train_state.params,
            runner_state.key,
        )
        metrics |= {
            "eval/return": Measured(eval_return, is_due),
            "rollout/return": Measured(mean_recent_return(envs), envs.num_finished > 0),
            "rollout/num_env_steps": Latest((index + 1) * batch.mask.size),
            "eval/num_env_steps": Latest(best.num_eval_env_steps),
        }
        return runner_state._replace(train_state=train_state, env=envs, best=best), metrics

    return step
