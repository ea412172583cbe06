"""Training of one kind of network by PPO, all seeds at once.

Axes: S seeds, E environments.
"""

from collections.abc import Callable

import jax

from thinking.environment import Environment
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult
from thinking.learning.policy_gradient import UpdateFn
from thinking.learning.recurrent_rollouts import collect_recurrent_batch
from thinking.learning.rollouts import init_envs, mean_recent_return
from thinking.networks.blocks import BlockConfig
from thinking.networks.recurrent_policy import RecurrentPolicy, recurrent_policy
from thinking.recipes.ppo_updates import build_ppo
from thinking.recipes.rl_memory.config import Config
from thinking.recipes.rl_memory.worlds import World, make_world
from thinking.recipes.seed_training import train_seeds
from thinking.train_state import RunnerState, init_train_state
from thinking.types import Array, Latest, Measured, Metrics

CHUNK = 10
"""Updates per chunk."""


def build_policy(config: Config, world: World, network: str) -> RecurrentPolicy:
    """A policy of one kind of network for the world."""
    model = config.model
    block = BlockConfig(model.width, model.num_heads, feed_forward=2 * model.width)
    return recurrent_policy(world.observation_dim, world.action_space, [network] * model.num_layers, block)


def train_policies(config: Config, run: Run, network: str) -> TrainResult:
    """Train policies of all seeds; the state of the result is a `RunnerState` of leaves [S, ...].

    Raises:
        RunError: as `experiment.training_loop.train`.
    """
    world, settings = make_world(config), config.ppo
    env, policy = world.env, build_policy(config, world, network)
    num_updates = max(1, settings.num_steps // (settings.num_envs * settings.rollout_length))
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
        return RunnerState(init_train_state(policy.init(init_key), optimizer), key, env=envs)

    return train_seeds(
        config,
        run,
        network,
        init=init,
        step=_make_step(config, env, policy, update),
        steps=num_updates,
        chunk=min(CHUNK, num_updates),
        progress_metric="rollout/return",
    )


def _make_step(config: Config, env: Environment, policy: RecurrentPolicy, update: UpdateFn) -> Callable:
    settings = config.ppo

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
        metrics |= {
            "rollout/return": Measured(mean_recent_return(envs), envs.num_finished > 0),
            "rollout/num_env_steps": Latest((index + 1) * batch.mask.size),
        }
        return runner_state._replace(train_state=train_state, env=envs), metrics

    return step
