"""Trained agents, and the row of results of each.

Axes: S seeds, P evaluations, E episodes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from thinking.environments.gymnasium_evaluation import find_steps_to_threshold
from thinking.experiment.training_loop import TrainResult
from thinking.networks.actor_critic import Policy
from thinking.types import Array

Row = dict[str, Any]


class TrainedAgent(NamedTuple):
    """A trained algorithm.

    Attributes:
        train_result: of its training stage.
        history: [S, P, 3] environment steps of training, evaluation return and training return at each evaluation.
        num_env_steps: [S] environment steps of training.
        num_eval_env_steps: [S] environment steps of evaluations in training; they are in no other count.
        make_policy_fn: `make_policy_fn(target_return, num_envs) -> (policy_fn, carry)`, for
            `gymnasium_evaluation.evaluate_in_gymnasium`.
        params: [S, ...].
        target_returns: target returns to evaluate; None for the best.
    """

    train_result: TrainResult
    history: Array
    num_env_steps: Array
    num_eval_env_steps: Array
    make_policy_fn: Callable[[float | None, int], tuple[Any, Any]]
    params: Any
    target_returns: tuple[float | None, ...] = (None,)


def make_policy_agent(policy: Policy, train_result: TrainResult) -> TrainedAgent:
    """A trained policy that acts greedily."""
    params, env_record = train_result.state.train_state.params, train_result.state.env

    def play(carry: tuple, observation: Array, return_so_far: Array) -> tuple[tuple, Array, dict]:
        return carry, jax.vmap(policy.act_greedily)(params, observation), {}

    return TrainedAgent(
        train_result,
        env_record.history,
        env_record.num_env_steps,
        env_record.num_eval_env_steps,
        lambda *_: (play, ()),
        params,
    )


def make_row(
    name: str, target_return: float | None, agent: TrainedAgent, returns: np.ndarray, threshold: float | None
) -> Row:
    """A row of results: statistics over seeds of each seed's mean over its test episodes [S, E].

    Steps are those of training, without evaluations, which have a column of their own.
    """
    means = returns.mean(axis=1)
    steps, evaluation, training = (np.asarray(agent.history)[:, :, column] for column in range(3))
    return {
        "algorithm": name,
        "target_return": "best" if target_return is None else f"{target_return:g}",
        "mean_return": float(means.mean()),
        "std_over_seeds": float(means.std()),
        "min_over_seeds": float(means.min()),
        "max_over_seeds": float(means.max()),
        "env_steps_to_threshold_in_eval": find_steps_to_threshold(steps, evaluation, threshold),
        "env_steps_to_threshold_in_training": find_steps_to_threshold(steps, training, threshold),
        "num_env_steps": float(np.mean(agent.num_env_steps)),
        "num_eval_env_steps": float(np.mean(agent.num_eval_env_steps)),
        "env_steps_per_second": float(np.sum(agent.num_env_steps) / max(agent.train_result.seconds, 1e-9)),
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(agent.params)) // len(means),
        "return_by_seed": " ".join(f"{mean:.0f}" for mean in means),
    }
