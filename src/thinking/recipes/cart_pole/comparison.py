"""Comparing algorithms in control worlds: what each is, and a line of results for each.

Axes: S seeds, P judgements, E episodes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from thinking.environments.gymnasium_evaluation import steps_until
from thinking.experiment.training import Trained
from thinking.networks.actor_critic import Policy
from thinking.trees import count_parameters
from thinking.types import Array

Row = dict[str, Any]


class Player(NamedTuple):
    """An algorithm, trained.

    Attributes:
        trained: its stage.
        history: [S, P, 3] environment steps, judged return and training return, of each seed at each judgement.
        play: `play(wanted, count) -> (play, mind)`, for `gymnasium_evaluation.judge`.
        params: what it learned, [S, ...].
        asks: the returns that it can be asked for, None for the best.
    """

    trained: Trained
    history: Array
    play: Callable[[float | None, int], tuple[Any, Any]]
    params: Any
    asks: tuple[float | None, ...] = (None,)


def policy_player(policy: Policy, trained: Trained) -> Player:
    """A trained policy, which plays without chance."""
    params = trained.state.train_state.params

    def play(mind: tuple, seen: Array, gained: Array) -> tuple[tuple, Array, dict]:
        return mind, jax.vmap(policy.best)(params, seen), {}

    return Player(trained, trained.state.env.history, lambda *_: (play, ()), params)


def row(name: str, wanted: float | None, player: Player, returns: np.ndarray, threshold: float | None) -> Row:
    """A line of results: over seeds, each seed's mean over its test episodes [S, E]."""
    means = returns.mean(axis=1)
    steps, judged, training = (np.asarray(player.history)[:, :, column] for column in range(3))
    return {
        "algorithm": name,
        "asked": "best" if wanted is None else f"{wanted:g}",
        "mean_return": float(means.mean()),
        "std_over_seeds": float(means.std()),
        "worst_seed": float(means.min()),
        "best_seed": float(means.max()),
        "steps_to_threshold": steps_until(steps, judged, threshold),
        "training_steps_to_threshold": steps_until(steps, training, threshold),
        "environment_steps": float(steps[:, -1].mean()),
        "steps_per_second": float(steps[:, -1].sum() / max(player.trained.seconds, 1e-9)),
        "parameters": count_parameters(player.params) // len(means),
        "return_of_seeds": " ".join(f"{mean:.0f}" for mean in means),
    }
