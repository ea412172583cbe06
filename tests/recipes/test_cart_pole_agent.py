"""The normalizer of observations, against NumPy's float64."""

import jax
import numpy as np
import pytest

from thinking.learning.replay_buffer import Episodes
from thinking.learning.statistics import init_moments
from thinking.recipes.cart_pole.agent import ObservationNormalizer


def make_episodes(states, length):
    num_episodes, num_steps = states.shape[0], states.shape[1] - 1
    zeros = np.zeros((num_episodes, num_steps), np.float32)
    return Episodes(states, zeros, zeros, np.array(length, np.int32), np.zeros(num_episodes, bool))


update = jax.jit(ObservationNormalizer.update)


def test_normalizer_matches_numpy_over_visited_states():
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(8, 21, 2)) * [1, 0.01] + [1e4, -3]).astype(np.float32)
    length = rng.integers(1, 20, 8)
    is_visited = np.arange(21)[None] <= length[:, None]
    states[~is_visited] = np.nan
    normalizer = ObservationNormalizer(init_moments(2))
    for rows in (slice(0, 3), slice(3, 8)):
        normalizer = update(normalizer, make_episodes(states[rows], length[rows]))
    visited_states = states[is_visited].astype(np.float64)
    expected = (visited_states - visited_states.mean(axis=0)) / visited_states.std(axis=0)
    np.testing.assert_allclose(
        jax.jit(ObservationNormalizer.__call__)(normalizer, states[is_visited]), expected, atol=5e-3
    )
    np.testing.assert_allclose(normalizer.denormalize(normalizer(states[is_visited])), states[is_visited], rtol=1e-6)


@pytest.mark.parametrize("value", [-0.7, 0.1, 1e4])
def test_constant_observation_is_centered_but_not_scaled(value):
    normalizer = ObservationNormalizer(init_moments(1))
    for _ in range(3):
        normalizer = update(normalizer, make_episodes(np.full((4, 51, 1), value, np.float32), [50] * 4))
    assert float(normalizer(np.float32([value]))[0]) == 0
    assert float(normalizer(np.float32([value]) + np.float32(0.5))[0]) == pytest.approx(0.5, abs=1e-3)


def test_normalizer_without_episodes_is_the_identity():
    np.testing.assert_array_equal(ObservationNormalizer(init_moments(2))(np.float32([3, -4])), [3, -4])
