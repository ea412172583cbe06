"""PPO on a control environment beside rejax: steps a second, and how much was learned, seed by seed in one run.

rejax is optional: `pip install rejax tfp-nightly` into the environment that runs the benchmark. Both have the same
networks, environments, rollouts, epochs, minibatches and constant learning rate, and clip the change of values. rejax
clips gradients elementwise, and takes an episode that reaches its step limit for terminated; its layers start by
Lecun's rule.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thinking.benchmarks.baselines import check_installed
from thinking.benchmarks.config import PPOConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.environments import control
from thinking.environments.control import ControlEnv
from thinking.learning.policy_gradient import ppo
from thinking.learning.rollouts import collect_episodes
from thinking.networks.actor_critic import perceptron_policy
from thinking.recipes.cart_pole.policy_training import EvalSchedule, init_policy_training, make_ppo_step
from thinking.types import Array

TrainFn = Callable[[Array], tuple[Any, Array]]
"""`train(key) -> (trained parameters, [P] evaluated returns)`, jitted; P is 0 if nothing is evaluated."""

NUM_EVAL_EPISODES = 16
NUM_EVALUATIONS = 10
HIDDEN_WIDTHS = (64, 64)
DISCOUNT, GAE_LAMBDA, CLIP, VALUE_WEIGHT, ENTROPY_WEIGHT, MAX_GRADIENT_NORM = 0.99, 0.95, 0.2, 0.5, 0.01, 0.5


def measure_ppo(config: PPOConfig, setup: Setup) -> Measurement:
    """Speed without evaluations, and returns over training, of each library; the seeds take turns."""
    env = control.make_env(config.env_name)
    makers = {"thinking": make_own_training}
    if check_installed(setup.run, "ppo", "rejax"):
        makers["rejax"] = make_rejax_training
    speed = {name: make(config, env, evaluated=False) for name, make in makers.items()}
    learning = {name: make(config, env, evaluated=True) for name, make in makers.items()}
    seconds = {name: np.zeros(config.num_seeds) for name in makers}
    returns = {name: [] for name in makers}
    for seed in range(-1, config.num_seeds):  # the first round compiles
        for name in makers:
            elapsed = _measure_seconds(speed[name], jax.random.key(max(seed, 0)))
            if seed >= 0:
                seconds[name][seed] = elapsed
                returns[name].append(np.asarray(learning[name](jax.random.key(seed))[1]))
    return Measurement([_make_row(config, name, seconds, np.array(returns[name])) for name in makers])


def _make_row(config: PPOConfig, name: str, seconds: dict[str, np.ndarray], returns: np.ndarray) -> Row:
    """Figures of one library; `returns` is [seeds, evaluations]."""
    ratios = seconds["rejax"] / seconds[name] if "rejax" in seconds else np.full(len(seconds[name]), np.nan)
    return {
        "benchmark": f"PPO in {config.env_name}, {name}",
        "num_seeds": config.num_seeds,
        "env_steps_per_second": float(np.median(count_steps(config) / seconds[name])),
        "times_faster_than_rejax": float(np.median(ratios)) if "rejax" in seconds else None,
        "times_faster_min": float(ratios.min()) if "rejax" in seconds else None,
        "times_faster_max": float(ratios.max()) if "rejax" in seconds else None,
        "return_at_half": float(returns[:, returns.shape[1] // 2 - 1].mean()),
        "final_return": float(returns[:, -1].mean()),
        "final_return_std": float(returns[:, -1].std()),
    }


def _measure_seconds(train: TrainFn, key: Array) -> float:
    start = time.perf_counter()
    jax.block_until_ready(train(key))
    return time.perf_counter() - start


def count_steps(config: PPOConfig) -> int:
    """Environment steps that are trained: whole rollouts, as many between any two evaluations."""
    return _count_updates(config) * config.num_envs * config.rollout_length


def _count_updates(config: PPOConfig) -> int:
    per_evaluation = config.num_steps // (config.num_envs * config.rollout_length * NUM_EVALUATIONS)
    return max(1, per_evaluation) * NUM_EVALUATIONS


def make_own_training(config: PPOConfig, env: ControlEnv, *, evaluated: bool) -> TrainFn:
    """This project's PPO."""
    policy = perceptron_policy(env.observation_space.dims, env.action_space, HIDDEN_WIDTHS)
    adam = optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(config.learning_rate, eps=1e-5))
    optimizer = optax.flatten(adam)
    update = ppo(
        policy.evaluate_actions,
        optimizer,
        num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches,
        clip=CLIP,
        value_weight=VALUE_WEIGHT,
        entropy_weight=ENTROPY_WEIGHT,
    )
    num_updates = _count_updates(config)
    step = make_ppo_step(
        env,
        policy,
        update,
        rollout_length=config.rollout_length,
        discount=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
        clip_values=config.clip_values,
        schedule=EvalSchedule(num_updates + 1, num_updates + 1),  # never: both libraries are evaluated by `evaluate`
    )

    def train(key: Array) -> tuple[Any, Array]:
        train_key, eval_key = jax.random.split(key)
        start = init_policy_training(env, policy, optimizer, config.num_envs, 1, train_key)

        def train_part(state: Any, number: Array) -> tuple[Any, Array]:
            length = num_updates // NUM_EVALUATIONS
            state = jax.lax.scan(lambda s, i: (step(s, i)[0], None), state, number * length + jnp.arange(length))[0]
            if not evaluated:
                return state, jnp.zeros(())
            params, key = state.train_state.params, jax.random.fold_in(eval_key, number)
            return state, evaluate(env, lambda observation: policy.act_greedily(params, observation), key)

        state, returns = jax.lax.scan(train_part, start, jnp.arange(NUM_EVALUATIONS))
        return state.train_state.params, returns

    return jax.jit(train)


def make_rejax_training(config: PPOConfig, env: ControlEnv, *, evaluated: bool) -> TrainFn:
    """The PPO of rejax (Liesen et al. 2024), with the same environment behind the interface that it expects."""
    from rejax import PPO

    algorithm = PPO.create(
        env=_RejaxEnv(env),
        env_params=None,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": HIDDEN_WIDTHS},
        num_envs=config.num_envs,
        num_steps=config.rollout_length,
        num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches,
        learning_rate=config.learning_rate,
        total_timesteps=count_steps(config),
        eval_freq=count_steps(config) // NUM_EVALUATIONS,
        skip_initial_evaluation=True,
        gamma=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
        clip_eps=CLIP,
        vf_coef=VALUE_WEIGHT,
        ent_coef=ENTROPY_WEIGHT,
        max_grad_norm=MAX_GRADIENT_NORM,
    )

    def evaluate_actor(algorithm: Any, train_state: Any, key: Array) -> Array:
        def act(observation: Array) -> Array:
            params = train_state.actor_ts.params
            return algorithm.actor.apply(params, observation, method="_action_dist").mode()

        return evaluate(env, act, key)

    algorithm = algorithm.replace(eval_callback=evaluate_actor if evaluated else lambda *_: jnp.zeros(()))
    return jax.jit(lambda key: algorithm.train(key))


class _RejaxEnv:
    """A control environment as rejax calls it: older gymnax, where a step resets and one flag says that it is done."""

    default_params = None

    def __init__(self, env: ControlEnv) -> None:
        self.env = env

    def observation_space(self, params: None) -> Any:
        from gymnax.environments.spaces import Box

        return Box(-np.inf, np.inf, (self.env.observation_space.dims,))

    def action_space(self, params: None) -> Any:
        from gymnax.environments.spaces import Discrete

        return Discrete(self.env.action_space.size)

    def reset(self, key: Array, params: None) -> tuple[Array, Any]:
        state, observation = self.env.reset(key)
        return observation, state

    def step(self, key: Array, state: Any, action: Array, params: None) -> tuple[Array, Any, Array, Array, dict]:
        step_key, reset_key = jax.random.split(key)
        time_step, reset = self.env.step(step_key, state, action), self.env.reset(reset_key)
        done = time_step.terminated | time_step.truncated
        after = time_step.state, time_step.observation
        state, observation = jax.tree.map(lambda new, old: jnp.where(done, new, old), reset, after)
        return observation, state, time_step.reward, done, {}


def evaluate(env: ControlEnv, act: Callable[[Array], Array], key: Array) -> Array:
    """[] mean return of some episodes. Consumes the key."""
    episodes = collect_episodes(
        env, lambda carry, key, observation, return_so_far: (carry, act(observation)), (), key, NUM_EVAL_EPISODES
    )
    return jnp.mean(episodes.returns)
