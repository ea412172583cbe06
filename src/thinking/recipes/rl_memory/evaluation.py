"""Evaluation of trained policies, which act greedily.

Axes: S seeds, E episodes, F corridors, O dimensions of an observation.
"""

from typing import Any

import jax
import numpy as np

from thinking.environment import Environment
from thinking.environments.gymnasium_evaluation import Recording, evaluate_in_gymnasium
from thinking.environments.partial_observation import PartialObservation
from thinking.environments.t_maze import TMaze
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult
from thinking.learning.rollouts import collect_episodes
from thinking.networks.recurrent_policy import RecurrentPolicy
from thinking.recipes.cart_pole import videos
from thinking.recipes.rl_memory.config import Config
from thinking.recipes.rl_memory.environments import CART_POLE, make_env_spec
from thinking.recipes.rl_memory.training import BestPolicy, build_policy, count_updates
from thinking.trees import count_parameters
from thinking.types import Array, Params, State

_EVAL_SEED = 2**31
"""Seed of the test episodes, beyond all training seeds."""


def evaluate_cart_pole(
    config: Config, env: PartialObservation, policy: RecurrentPolicy, params: Params
) -> tuple[np.ndarray, Recording]:
    """Returns [S, E] in Gymnasium of policies [S, ...] that see positions alone, and a recording of an episode."""
    count = config.eval.num_episodes

    def play(state: State, observation: Array, return_so_far: Array) -> tuple[State, Array, dict[str, Any]]:
        state, action = jax.vmap(policy.act_greedily)(params, state, env.select(observation))
        return state, action, {}

    state = jax.vmap(lambda _: policy.init_state(count))(np.arange(config.seeds))
    return evaluate_in_gymnasium(CART_POLE, play, state, config.seeds, count)


def evaluate_in_env(config: Config, env: Environment, policy: RecurrentPolicy, params: Params, seed: int) -> np.ndarray:
    """Returns [S, E] of policies [S, ...] in episodes that depend on the seed."""
    count = config.eval.num_episodes

    def evaluate(params: Params) -> Array:
        def play(state: State, key: Array, observation: Array, return_so_far: Array) -> tuple[State, Array]:
            return policy.act_greedily(params, state, observation)

        key = jax.random.fold_in(jax.random.key(_EVAL_SEED), seed)
        return collect_episodes(env, play, policy.init_state(count), key, count).returns

    return np.asarray(jax.jit(jax.vmap(evaluate))(params))


def evaluate_policies(config: Config, run: Run, network: str, result: TrainResult) -> list[dict[str, Any]]:
    """A row of results for each environment: that of training, or corridors of several lengths."""
    env_spec, best = make_env_spec(config), result.state.best
    policy = build_policy(config, env_spec, network)
    match config.env.name:
        case "cart_pole":
            returns, episode = evaluate_cart_pole(config, env_spec.env, policy, best.params)
            videos.write_video(
                run.folder / "videos" / f"{network}.gif", CART_POLE, episode, f"{network}, positions alone"
            )
            by_env = {"cart pole without velocities": returns}
        case "t_maze":
            lengths = [config.env.corridor * factor for factor in config.eval.factors]
            by_env = {f"corridor of {n}": evaluate_in_env(config, TMaze(n), policy, best.params, n) for n in lengths}
        case "aliased_graph":
            by_env = {"aliased graph": evaluate_in_env(config, env_spec.env, policy, best.params, 0)}
    return [_make_row(config, network, name, returns, best) for name, returns in by_env.items()]


def _make_row(config: Config, network: str, environment: str, returns: np.ndarray, best: BestPolicy) -> dict[str, Any]:
    means = returns.mean(axis=1)
    return {
        "network": network,
        "environment": environment,
        "mean_return": float(means.mean()),
        "std_over_seeds": float(means.std()),
        "min_over_seeds": float(means.min()),
        "num_env_steps": count_updates(config.ppo) * config.ppo.num_envs * config.ppo.rollout_length,
        "num_eval_env_steps": float(np.mean(best.num_eval_env_steps)),
        "num_parameters": count_parameters(best.params) // config.seeds,
        "return_by_seed": " ".join(f"{mean:.3g}" for mean in means),
    }
