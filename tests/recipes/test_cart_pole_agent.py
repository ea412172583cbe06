"""The normalizer of observations, against NumPy's float64."""

import jax
import numpy as np
import pytest

from thinking.learning.replay_buffer import Episodes
from thinking.learning.statistics import init_moments
from thinking.recipes.cart_pole.agent import ObservationNormalizer


def make_episodes(states, length):
    count, steps = states.shape[0], states.shape[1] - 1
    blank = np.zeros((count, steps), np.float32)
    return Episodes(states, blank, blank, np.array(length, np.int32), np.zeros(count, bool))


update = jax.jit(ObservationNormalizer.update)


def test_states_are_normalized_by_what_episodes_visited_wherever_they_lie():
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(8, 21, 2)) * [1, 0.01] + [1e4, -3]).astype(np.float32)
    length = rng.integers(1, 20, 8)
    visited = np.arange(21)[None] <= length[:, None]
    states[~visited] = np.nan
    normalizer = ObservationNormalizer(init_moments(2))
    for rows in (slice(0, 3), slice(3, 8)):
        normalizer = update(normalizer, make_episodes(states[rows], length[rows]))
    exact = states[visited].astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(
        jax.jit(ObservationNormalizer.__call__)(normalizer, states[visited]), expected, atol=5e-3
    )
    np.testing.assert_allclose(normalizer.denormalize(normalizer(states[visited])), states[visited], rtol=1e-6)


@pytest.mark.parametrize("value", [-0.7, 0.1, 1e4])
def test_an_observation_that_never_varied_is_centered_and_not_scaled(value):
    normalizer = ObservationNormalizer(init_moments(1))
    for _ in range(3):
        normalizer = update(normalizer, make_episodes(np.full((4, 51, 1), value, np.float32), [50] * 4))
    assert float(normalizer(np.float32([value]))[0]) == 0
    assert float(normalizer(np.float32([value]) + np.float32(0.5))[0]) == pytest.approx(0.5, abs=1e-3)


def test_before_the_first_episode_observations_stay_as_they_are():
    np.testing.assert_array_equal(ObservationNormalizer(init_moments(2))(np.float32([3, -4])), [3, -4])
