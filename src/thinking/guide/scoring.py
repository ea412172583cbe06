"""Scores: how good it was what a lesson tells of, between 0 and 1, higher is better.

Of a state t and a goal j on a lived path, with discount g: without reward, how near the goal was, `g ** (j - t)`; with
reward, that and what was gained on the way, `(1 - g) sum_{t <= i < j} g ** (i - t) r_i + g ** (j - t)`, for rewards r
in [0, 1]: time costs only where little is gained. A *Monte Carlo* score is what was lived. A *temporal-difference*
score takes one step from life and the rest from what the layer holds for the state after it (Sutton 1988), so that
it knows better ways than the one that was taken.

Axes: T states of a path, R lessons.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hindsight import Pairs, Path
from thinking.types import Array


class Scoring(NamedTuple):
    """How lessons are scored; built by `monte_carlo` or `temporal_difference`.

    Attributes:
        discount: in (0, 1), what one more step leaves of a score.
        bootstrap: whether a score takes one step from life and the rest from the layer.
        reward: whether what was gained on the way counts.
    """

    discount: float
    bootstrap: bool
    reward: bool


def monte_carlo(discount: float = 0.8, *, reward: bool = False) -> Scoring:
    """Scores as they were lived.

    Raises:
        ValueError: if the discount is not above 0 and below 1.
    """
    return _validate(Scoring(discount, False, reward))


def temporal_difference(discount: float = 0.8, *, reward: bool = False) -> Scoring:
    """Scores of one lived step, and from there on what the layer itself expects.

    Raises:
        ValueError: if the discount is not above 0 and below 1.
    """
    return _validate(Scoring(discount, True, reward))


def _validate(scoring: Scoring) -> Scoring:
    if not 0 < scoring.discount < 1:
        raise ValueError(f"discount {scoring.discount}: allowed is above 0 and below 1")
    return scoring


def check_path(scoring: Scoring, path: Path) -> None:
    """Raises ValueError if the scores count rewards and the path tells none."""
    if scoring.reward and path.rewards is None:
        raise ValueError("scores with reward need paths with rewards; give Path(rewards=...) or score without reward")


def path_score(scoring: Scoring, path: Path, pairs: Pairs) -> Array:
    """[R] Monte Carlo scores of the lessons of one path.

    Where a layer pursues a value, the score is that value with reward, and 1 without.
    """
    t, j = pairs.t, pairs.j
    if pairs.is_value_target:
        return path.values[t] if scoring.reward else jnp.ones(t.shape, jnp.float32)
    near = jnp.asarray(scoring.discount ** (j - t), jnp.float32)
    return near + _discounted_gains(scoring.discount, path.rewards)[t, j] if scoring.reward else near


def td_score(scoring: Scoring, path: Path, pairs: Pairs, expected: Array) -> Array:
    """[R] temporal-difference scores of the lessons of one path.

    Args:
        scoring: discount and reward.
        path: one path, without the axis W.
        pairs: the lessons' states and goals.
        expected: [R] what the layer holds for the state after each t; -inf where it holds nothing, which leaves what
            was lived.
    """
    t, j = pairs.t, pairs.j
    if pairs.is_value_target and not scoring.reward:
        return path_score(scoring, path, pairs)
    gained = (1 - scoring.discount) * path.rewards[t] if scoring.reward else 0.0
    after = path_score(scoring, path, pairs._replace(t=jnp.minimum(t + 1, j)))
    expected = jnp.where((t + 1 >= j) | (expected == -jnp.inf), after, expected)
    return gained + scoring.discount * expected


def _discounted_gains(discount: float, rewards: Array) -> Array:
    """[T, T] what was gained from t until j, discounted; 0 where j <= t."""
    index = jnp.arange(rewards.shape[0])

    def back(later: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        t, reward = state
        here = jnp.where(index > t, (1 - discount) * reward + discount * later, 0.0)
        return here, here

    _, gains = jax.lax.scan(back, jnp.zeros(rewards.shape, jnp.float32), (index, rewards), reverse=True)
    return gains
