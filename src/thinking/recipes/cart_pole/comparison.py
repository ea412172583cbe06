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
        history: [S, P, 3] environment steps, evaluation return and training return at each evaluation.
        make_play_fn: `make_play_fn(target_return, num_envs) -> (play_fn, carry)`, for
            `gymnasium_evaluation.evaluate_in_gymnasium`.
        params: [S, ...].
        target_returns: target returns to evaluate; None for the best.
    """

    train_result: TrainResult
    history: Array
    make_play_fn: Callable[[float | None, int], tuple[Any, Any]]
    params: Any
    target_returns: tuple[float | None, ...] = (None,)


def make_policy_agent(policy: Policy, train_result: TrainResult) -> TrainedAgent:
    """A trained policy that acts greedily."""
    params = train_result.state.train_state.params

    def play(carry: tuple, observation: Array, return_so_far: Array) -> tuple[tuple, Array, dict]:
        return carry, jax.vmap(policy.act_greedily)(params, observation), {}

    return TrainedAgent(train_result, train_result.state.env.history, lambda *_: (play, ()), params)


def make_row(
    name: str, target_return: float | None, agent: TrainedAgent, returns: np.ndarray, threshold: float | None
) -> Row:
    """A row of results: statistics over seeds of each seed's mean over its test episodes [S, E]."""
    means = returns.mean(axis=1)
    steps, evaluation, training = (np.asarray(agent.history)[:, :, column] for column in range(3))
    return {
        "algorithm": name,
        "target_return": "best" if target_return is None else f"{target_return:g}",
        "mean_return": float(means.mean()),
        "std_over_seeds": float(means.std()),
        "min_over_seeds": float(means.min()),
        "max_over_seeds": float(means.max()),
        "steps_to_threshold": find_steps_to_threshold(steps, evaluation, threshold),
        "training_steps_to_threshold": find_steps_to_threshold(steps, training, threshold),
        "num_env_steps": float(steps[:, -1].mean()),
        "steps_per_second": float(steps[:, -1].sum() / max(agent.train_result.seconds, 1e-9)),
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(agent.params)) // len(means),
        "return_by_seed": " ".join(f"{mean:.0f}" for mean in means),
    }
