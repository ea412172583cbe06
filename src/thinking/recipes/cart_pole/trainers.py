"""Training each algorithm by its config, all seeds at once.

Axes: S seeds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from thinking import kernels
from thinking.environments import control
from thinking.environments.control import World
from thinking.experiment import Run
from thinking.experiment.training import Trained, train
from thinking.guide import Guide, abstraction, guide, monte_carlo, temporal_difference
from thinking.learning.policy_gradient import ppo, reinforce
from thinking.learning.replay_buffer import Keeping
from thinking.networks.actor_critic import Policy, perceptron_policy
from thinking.recipes.cart_pole.agent import Actor, player
from thinking.recipes.cart_pole.comparison import Player, policy_player
from thinking.recipes.cart_pole.config import Config
from thinking.recipes.cart_pole.guide_training import Course, Settings, guide_step, init_agent
from thinking.recipes.cart_pole.policy_training import init_policy_training, ppo_step, reinforce_step
from thinking.types import Array, Box, Space


def seed_keys(config: Config) -> Array:
    """[S] a typed key for each seed."""
    return jax.vmap(jax.random.key)(jnp.arange(config.seeds, dtype=jnp.uint32) + jnp.uint32(config.seed))


def train_seeds(
    config: Config, run: Run, stage: str, *, init: Callable, step: Callable, steps: int, chunk: int
) -> Trained:
    """Train all seeds at once; the metrics are means over them.

    Args:
        config: of the run.
        run: that takes what is saved.
        stage: the name of what is trained.
        init: `init(key) -> state` of one seed.
        step: `step(state, index) -> (state, metrics)` of one seed.
        steps: in all.
        chunk: steps between two looks at metrics and signals.

    Returns:
        What came of it; the state's leaves are [S, ...].
    """

    def step_all(state: Any, index: Array) -> tuple[Any, dict[str, Array]]:
        state, metrics = jax.vmap(step, (0, None))(state, index)
        return state, jax.tree.map(jnp.mean, metrics) | {"return_std": jnp.std(metrics["return"])}

    def init_all() -> Any:
        return jax.jit(jax.vmap(init))(seed_keys(config))

    return train(run, stage, init=init_all, step=step_all, steps=steps, chunk=chunk, watch="return")


def plan_iterations(config: Config) -> list[Course]:
    """At random first, then asking the guide of the iteration before, at last for nearly the best alone."""
    collection = config.collection

    def iteration(number: int) -> Course:
        if number == 0:
            return Course(collection.num_initial_rounds, 1.0)
        early = number <= collection.num_iterations // 3
        return Course(
            collection.num_rounds, collection.random_fraction, (collection.target_fractions[0 if early else 1], 1.0)
        )

    return [iteration(number) for number in range(collection.num_iterations)]


def guide_settings(config: Config) -> Settings:
    """How iterations go."""
    collection, buffer = config.collection, config.buffer
    return Settings(
        episodes=collection.num_episodes,
        updates=collection.num_updates,
        windows=collection.num_windows,
        window=max(2, config.guide.skip_step ** (config.guide.num_layers - 1) + 1),
        places=buffer.num_best + buffer.num_binned,
        keeping=Keeping(buffer.num_best, buffer.num_return_bins, buffer.retention == "best"),
        best_share=buffer.best_fraction,
        discount=config.guide.value_discount,
        hold=collection.mean_action_duration,
        paced=collection.update_return_to_go,
        average=config.guide.ema_decay,
    )


def build_guide(config: Config, world: World) -> Guide:
    """The layers: a state value becomes a sub-goal, that a nearer one, and the last an action."""
    settings = config.guide
    updates = config.collection.num_iterations * config.collection.num_updates
    schedule = optax.cosine_decay_schedule(settings.optimizer.learning_rate, updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def layer(value: Space, target: Space) -> kernels.Kernel:
        return kernels.transformer(
            input=world.observation,
            value=value,
            target=target,
            optimizer=optimizer,
            context_length=settings.context_length,
            width=settings.width,
            heads=settings.num_heads,
            slots=settings.num_slots,
        )

    state, state_value = world.observation, Box(1)
    layers = [layer(world.action, state_value)]
    if settings.num_layers > 1:
        middle = [layer(state, state)] * (settings.num_layers - 2)
        layers = [layer(world.action, state), *middle, layer(state, state_value)]
    score = {"monte_carlo": monte_carlo, "temporal_difference": temporal_difference}[settings.score]
    scoring = score(settings.score_discount, reward=settings.score_rewards)
    return guide(layers=layers, abstraction=abstraction.skip_step(settings.skip_step), scoring=scoring)


def train_guide(config: Config, run: Run, world: World) -> Player:
    """The guide, iteration by iteration."""
    world = control.world(world.name, config.env.episode_limit)
    guide, iterations, settings = build_guide(config, world), plan_iterations(config), guide_settings(config)
    trained = train_seeds(
        config,
        run,
        "guide",
        init=lambda key: init_agent(world, guide, iterations, settings, key),
        step=guide_step(world, guide, iterations, settings),
        steps=settings.updates * len(iterations),
        chunk=max(1, settings.updates // 2),
    )
    agents, actor = trained.state, Actor(world, guide, settings.discount)
    return Player(
        trained,
        agents.history,
        lambda wanted, count: player(actor, agents, wanted, settings.paced, count),
        [layer.train_state.params for layer in agents.guide.layers],
        (None, *config.eval.target_returns),
    )


def build_policy(config: Config, world: World) -> Policy:
    """Actor and critic."""
    return perceptron_policy(world.observation.dims, world.action, (config.policy_net.width,) * 2)


def train_ppo(config: Config, run: Run, world: World) -> Player:
    """PPO, as it is usually run."""
    settings, net, policy = config.ppo, config.policy_net, build_policy(config, world)
    updates = max(1, settings.num_steps // (settings.num_envs * settings.rollout_length))
    # Whole intervals: a rest would only be compiled once more.
    updates -= updates % min(updates, config.eval.interval)
    schedule = optax.linear_schedule(
        settings.optimizer.learning_rate, 0, updates * settings.num_epochs * settings.num_minibatches
    )
    # Of one vector, as many small operations are slow on a CPU.
    adam = optax.chain(optax.clip_by_global_norm(net.max_gradient_norm), optax.adam(schedule, eps=1e-5))
    optimizer = optax.flatten(adam)
    update = ppo(
        policy.judge,
        optimizer,
        epochs=settings.num_epochs,
        minibatches=settings.num_minibatches,
        clip=settings.clip,
        entropy_weight=settings.entropy_weight,
    )
    step = ppo_step(
        world,
        policy,
        update,
        steps=settings.rollout_length,
        discount=net.discount,
        decay=settings.gae_lambda,
        judge_every=config.eval.interval,
    )
    return _train_policy(config, run, world, "ppo", policy, optimizer, step, updates, settings.num_envs)


def train_reinforce(config: Config, run: Run, world: World) -> Player:
    """REINFORCE, with a baseline or without."""
    settings, net, policy = config.reinforce, config.policy_net, build_policy(config, world)
    adam = optax.adam(settings.optimizer.learning_rate)
    optimizer = optax.chain(optax.clip_by_global_norm(net.max_gradient_norm), adam)
    step = reinforce_step(
        world,
        policy,
        reinforce(policy.judge, optimizer, baseline=settings.baseline),
        count=settings.num_episodes,
        discount=net.discount,
        judge_every=config.eval.interval,
    )
    return _train_policy(
        config, run, world, "reinforce", policy, optimizer, step, settings.num_updates, settings.num_episodes
    )


TRAINERS: dict[str, Callable[[Config, Run, World], Player]] = {
    "guide": train_guide,
    "ppo": train_ppo,
    "reinforce": train_reinforce,
}


def _train_policy(
    config: Config,
    run: Run,
    world: World,
    stage: str,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    step: Callable,
    updates: int,
    envs: int,
) -> Player:
    evaluations = max(1, updates // config.eval.interval)
    trained = train_seeds(
        config,
        run,
        stage,
        init=lambda key: init_policy_training(world, policy, optimizer, envs, evaluations, key),
        step=step,
        steps=updates,
        chunk=config.eval.interval,
    )
    return policy_player(policy, trained)
