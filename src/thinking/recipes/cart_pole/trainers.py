"""Training each algorithm by its config, all seeds at once."""

from collections.abc import Callable

import optax

from thinking import kernels
from thinking.environments import control
from thinking.environments.control import ControlEnv
from thinking.experiment import Run
from thinking.guide import Guide, abstraction, guide, monte_carlo, temporal_difference
from thinking.guide.hindsight import count_examples
from thinking.learning.policy_gradient import reinforce
from thinking.learning.replay_buffer import Retention
from thinking.networks.actor_critic import Policy, perceptron_policy
from thinking.recipes.cart_pole.agent import GuideActor, make_policy_fn
from thinking.recipes.cart_pole.comparison import TrainedAgent, make_policy_agent
from thinking.recipes.cart_pole.config import Config
from thinking.recipes.cart_pole.guide_training import CollectionSettings, Iteration, init_agent, make_guide_step
from thinking.recipes.cart_pole.policy_training import (
    EvalSchedule,
    init_policy_training,
    make_ppo_step,
    make_reinforce_step,
)
from thinking.recipes.ppo_updates import build_ppo
from thinking.recipes.seed_training import train_seeds
from thinking.types import Box, Space


def make_iterations(config: Config) -> list[Iteration]:
    """A curriculum: random actions first, then the guide with targets that rise toward the best."""
    collection = config.collection

    def iteration(number: int) -> Iteration:
        if number == 0:
            return Iteration(collection.num_initial_rounds, 1.0)
        early = number <= collection.num_iterations // 3
        return Iteration(
            collection.num_rounds, collection.random_fraction, (collection.target_fractions[0 if early else 1], 1.0)
        )

    return [iteration(number) for number in range(collection.num_iterations)]


def count_windows(config: Config) -> tuple[int, int]:
    """Number of windows per update, and states of each.

    A window reaches from one sub-goal of the top layer to the next, so with one layer it is a single transition. There
    are then so many more of them that an update has as many training examples as with two layers. With three layers or
    more each window has more examples, and there are no fewer windows.
    """

    def window_length(num_layers: int) -> int:
        return max(2, config.guide.skip_step ** (num_layers - 1) + 1)

    num_layers, num_windows = config.guide.num_layers, config.collection.num_windows
    if num_layers == 1:
        skip_step = abstraction.skip_step(config.guide.skip_step)
        num_windows *= count_examples(skip_step, 2, window_length(2))
    return num_windows, window_length(num_layers)


def make_collection_settings(config: Config) -> CollectionSettings:
    """Settings of all iterations."""
    collection, buffer = config.collection, config.buffer
    num_windows, window_length = count_windows(config)
    return CollectionSettings(
        num_episodes=collection.num_episodes,
        num_updates=collection.num_updates,
        num_windows=num_windows,
        window_length=window_length,
        capacity=buffer.num_best + buffer.num_binned,
        retention=Retention(buffer.num_best, buffer.num_return_bins, buffer.retention == "best"),
        best_fraction=buffer.best_fraction,
        discount=config.guide.value_discount,
        mean_action_duration=collection.mean_action_duration,
        update_return_to_go=collection.update_return_to_go,
        ema_decay=config.guide.ema_decay,
    )


def build_guide(config: Config, env: ControlEnv) -> Guide:
    """The top layer maps a state value to a sub-goal, middle layers to nearer sub-goals, the lowest to an action."""
    settings = config.guide
    updates = config.collection.num_iterations * config.collection.num_updates
    schedule = optax.cosine_decay_schedule(settings.optimizer.learning_rate, updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def layer(value: Space, target: Space) -> kernels.Kernel:
        return kernels.transformer(
            input=env.observation_space,
            value=value,
            target=target,
            optimizer=optimizer,
            context_length=settings.context_length,
            width=settings.width,
            num_heads=settings.num_heads,
            num_slots=settings.num_slots,
        )

    state, state_value = env.observation_space, Box(1)
    layers = [layer(env.action_space, state_value)]
    if settings.num_layers > 1:
        middle = [layer(state, state)] * (settings.num_layers - 2)
        layers = [layer(env.action_space, state), *middle, layer(state, state_value)]
    score = {"monte_carlo": monte_carlo, "temporal_difference": temporal_difference}[settings.score]
    scoring = score(settings.score_discount, reward=settings.score_rewards)
    return guide(layers=layers, abstraction=abstraction.skip_step(settings.skip_step), scoring=scoring)


def train_guide(config: Config, run: Run, env: ControlEnv) -> TrainedAgent:
    """Train the guide, iteration by iteration."""
    env = control.make_env(env.name, config.env.episode_limit)
    guide, iterations, settings = build_guide(config, env), make_iterations(config), make_collection_settings(config)
    train_result = train_seeds(
        config,
        run,
        "guide",
        init=lambda key: init_agent(env, guide, iterations, settings, key),
        step=make_guide_step(env, guide, iterations, settings),
        steps=settings.num_updates * len(iterations),
        chunk=max(1, settings.num_updates // 2),
        progress_metric="eval/return",
    )
    agents, actor = train_result.state, GuideActor(env, guide, settings.discount)
    return TrainedAgent(
        train_result,
        agents.history,
        agents.num_env_steps,
        agents.num_eval_env_steps,
        lambda target_return, num_envs: make_policy_fn(
            actor, agents, target_return, settings.update_return_to_go, num_envs
        ),
        [layer.train_state.params for layer in agents.guide.layers],
        (None, *config.eval.target_returns),
    )


def build_policy(config: Config, env: ControlEnv) -> Policy:
    """An actor-critic of two hidden layers."""
    return perceptron_policy(env.observation_space.dims, env.action_space, (config.policy_net.width,) * 2)


def train_ppo(config: Config, run: Run, env: ControlEnv) -> TrainedAgent:
    """Train PPO."""
    settings, net, policy = config.ppo, config.policy_net, build_policy(config, env)
    updates = max(1, settings.num_steps // (settings.num_envs * settings.rollout_length))
    # Whole intervals, as a shorter last chunk would be compiled separately.
    updates -= updates % min(updates, config.eval.interval)
    evaluations = EvalSchedule(config.eval.interval, updates)
    update, optimizer = build_ppo(
        policy.evaluate_actions,
        settings,
        learning_rate=settings.optimizer.learning_rate,
        max_gradient_norm=net.max_gradient_norm,
        num_updates=updates,
    )
    step = make_ppo_step(
        env,
        policy,
        update,
        rollout_length=settings.rollout_length,
        discount=net.discount,
        gae_lambda=settings.gae_lambda,
        clip_values=settings.clip_values,
        schedule=evaluations,
    )
    return _train_policy(config, run, env, "ppo", policy, optimizer, step, evaluations, settings.num_envs)


def train_reinforce(config: Config, run: Run, env: ControlEnv) -> TrainedAgent:
    """Train REINFORCE, with or without a value baseline."""
    settings, net, policy = config.reinforce, config.policy_net, build_policy(config, env)
    adam = optax.adam(settings.optimizer.learning_rate)
    optimizer = optax.chain(optax.clip_by_global_norm(net.max_gradient_norm), adam)
    evaluations = EvalSchedule(config.eval.interval, settings.num_updates)
    step = make_reinforce_step(
        env,
        policy,
        reinforce(policy.evaluate_actions, optimizer, use_baseline=settings.baseline),
        use_baseline=settings.baseline,
        num_episodes=settings.num_episodes,
        discount=net.discount,
        schedule=evaluations,
    )
    return _train_policy(config, run, env, "reinforce", policy, optimizer, step, evaluations, settings.num_episodes)


TRAINERS: dict[str, Callable[[Config, Run, ControlEnv], TrainedAgent]] = {
    "guide": train_guide,
    "ppo": train_ppo,
    "reinforce": train_reinforce,
}


def _train_policy(
    config: Config,
    run: Run,
    env: ControlEnv,
    stage: str,
    policy: Policy,
    optimizer: optax.GradientTransformation,
    step: Callable,
    evaluations: EvalSchedule,
    num_envs: int,
) -> TrainedAgent:
    train_result = train_seeds(
        config,
        run,
        stage,
        init=lambda key: init_policy_training(env, policy, optimizer, num_envs, evaluations.num_evaluations, key),
        step=step,
        steps=evaluations.num_updates,
        chunk=config.eval.interval,
        progress_metric="eval/return",
    )
    return make_policy_agent(policy, train_result)
