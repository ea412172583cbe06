"""Scores of training examples, in [0, 1], higher is better.

For a state t and a goal j on a trajectory, with discount factor g: without rewards the score is `g ** (j - t)`; with
rewards r in [0, 1] it is `(1 - g) sum_{t <= i < j} g ** (i - t) r_i + g ** (j - t)`, so time costs only where rewards
are low. A *Monte Carlo* score is that of the observed trajectory. A *temporal-difference* score bootstraps after one
step from the layer's own score of the next state (Sutton 1988), so it can credit better ways than the one taken.

Axes: T states of a trajectory, R examples.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hindsight import Pairs, Trajectories
from thinking.types import Array


class Scoring(NamedTuple):
    """How examples are scored; built by `monte_carlo` or `temporal_difference`.

    Attributes:
        discount: discount factor per step, in (0, 1).
        uses_bootstrap: whether the score bootstraps after one step.
        uses_rewards: whether rewards count.
    """

    discount: float
    uses_bootstrap: bool
    uses_rewards: bool


def monte_carlo(discount: float = 0.8, *, reward: bool = False) -> Scoring:
    """Monte Carlo scores of the observed trajectory.

    Raises:
        ValueError: if the discount is not above 0 and below 1.
    """
    return _validate(Scoring(discount, False, reward))


def temporal_difference(discount: float = 0.8, *, reward: bool = False) -> Scoring:
    """One-step temporal-difference scores.

    Raises:
        ValueError: if the discount is not above 0 and below 1.
    """
    return _validate(Scoring(discount, True, reward))


def _validate(scoring: Scoring) -> Scoring:
    if not 0 < scoring.discount < 1:
        raise ValueError(f"discount {scoring.discount}: allowed is above 0 and below 1")
    return scoring


def check_trajectories(scoring: Scoring, trajectory: Trajectories) -> None:
    """Raises ValueError if scores need rewards that the trajectory does not have."""
    if scoring.uses_rewards and trajectory.rewards is None:
        raise ValueError(
            "scores with reward need trajectories with rewards; give Trajectories(rewards=...) or score without reward"
        )


def score_trajectory(scoring: Scoring, trajectory: Trajectories, pairs: Pairs) -> Array:
    """[R] Monte Carlo scores of the examples of one trajectory.

    For value targets the score is the value with rewards, and 1 without.
    """
    t, j = pairs.t, pairs.j
    if pairs.is_value_target:
        return trajectory.values[t] if scoring.uses_rewards else jnp.ones(t.shape, jnp.float32)
    goal_score = jnp.asarray(scoring.discount ** (j - t), jnp.float32)
    return (
        goal_score + _discounted_gains(scoring.discount, trajectory.rewards)[t, j]
        if scoring.uses_rewards
        else goal_score
    )


def score_by_bootstrapping(scoring: Scoring, trajectory: Trajectories, pairs: Pairs, expected: Array) -> Array:
    """[R] temporal-difference scores of the examples of one trajectory (without the axis W).

    `expected` [R] is the layer's score of the state after each t; -inf without an entry, which falls back to Monte
    Carlo.
    """
    t, j = pairs.t, pairs.j
    if pairs.is_value_target and not scoring.uses_rewards:
        return score_trajectory(scoring, trajectory, pairs)
    reward = (1 - scoring.discount) * trajectory.rewards[t] if scoring.uses_rewards else 0.0
    next_score = score_trajectory(scoring, trajectory, pairs._replace(t=jnp.minimum(t + 1, j)))
    expected = jnp.where((t + 1 >= j) | (expected == -jnp.inf), next_score, expected)
    return reward + scoring.discount * expected


def _discounted_gains(discount: float, rewards: Array) -> Array:
    """[T, T] discounted rewards from t until j; 0 where j <= t."""
    index = jnp.arange(rewards.shape[0])

    def scan_back(later: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        t, reward = inputs
        gain = jnp.where(index > t, (1 - discount) * reward + discount * later, 0.0)
        return gain, gain

    _, gains = jax.lax.scan(scan_back, jnp.zeros(rewards.shape, jnp.float32), (index, rewards), reverse=True)
    return gains
