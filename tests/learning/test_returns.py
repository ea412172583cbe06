"""Returns, advantages and state values, against plain Python."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.learning.returns import (
    bootstrapped_returns,
    generalized_advantages,
    group_advantages,
    returns_to_go,
    state_values,
)

T, E = 6, 2
hypothesis_settings = settings(max_examples=25, deadline=None, derandomize=True)
float_arrays = st.lists(st.floats(-2, 2, width=32), min_size=T * E, max_size=T * E).map(
    lambda x: np.array(x, np.float32).reshape(T, E)
)
bool_arrays = st.lists(st.booleans(), min_size=T * E, max_size=T * E).map(lambda x: np.array(x).reshape(T, E))
compute_advantages = jax.jit(generalized_advantages)
compute_values = jax.jit(state_values)


@given(rewards=float_arrays, discount=st.floats(0.125, 1, width=32))
@hypothesis_settings
def test_returns_to_go_match_discounted_sums(rewards, discount):
    expected = [[sum(discount ** (k - t) * rewards[k, e] for k in range(t, T)) for t in range(T)] for e in range(E)]
    np.testing.assert_allclose(jax.jit(returns_to_go)(rewards.T, discount), expected, rtol=1e-4, atol=1e-4)


@given(float_arrays, float_arrays, float_arrays, bool_arrays, bool_arrays, st.floats(0.1, 0.99), st.floats(0, 1))
@hypothesis_settings
def test_generalized_advantages_match_sums_of_td_errors(
    rewards, values, next_values, terminated, truncated, discount, gae_lambda
):
    done = terminated | truncated
    actual = compute_advantages(rewards, values, next_values, terminated, done, discount, gae_lambda)
    for e in range(E):
        for t in range(T):
            expected, weight = 0.0, 1.0
            for k in range(t, T):
                next_value = 0.0 if terminated[k, e] else discount * next_values[k, e]
                expected += weight * (rewards[k, e] + next_value - values[k, e])
                weight *= discount * gae_lambda
                if done[k, e]:
                    break
            assert float(actual[t, e]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_advantages_with_gae_lambda_1_are_returns_minus_values():
    rewards = np.ones((T, 1), np.float32)
    all_false, is_last = np.zeros((T, 1), bool), np.arange(T)[:, None] == T - 1
    zero_values, high_values = np.zeros((T, 1), np.float32), np.full((T, 1), 7.0, np.float32)
    terminated_advantages = compute_advantages(rewards, zero_values, high_values, is_last, is_last, 1.0, 1.0)
    # All values but the last cancel in the sum of TD errors.
    np.testing.assert_allclose(terminated_advantages[-1, 0], 1)
    truncated_advantages = compute_advantages(rewards, high_values, high_values, all_false, is_last, 1.0, 1.0)
    # Truncation bootstraps from the next value, 7.
    np.testing.assert_allclose(truncated_advantages[:, 0], np.arange(T, 0, -1))


@given(
    float_arrays.map(np.abs), st.lists(st.integers(0, T), min_size=E, max_size=E), st.booleans(), st.floats(0.1, 0.99)
)
@hypothesis_settings
def test_state_values_match_discounted_averages(rewards, lengths, terminated, discount):
    rewards, lengths = rewards.T / 2, np.array(lengths)
    valid = np.arange(T) < lengths[:, None]
    actual = compute_values(rewards, valid, np.full(E, terminated), discount, 0.25)
    for e, length in enumerate(lengths):
        for t in range(T):
            weights = discount ** np.arange(length - t) if t < length else np.zeros(1)
            total = float(np.sum(weights * rewards[e, t:length])) if t < length else 0.0
            if terminated:
                expected = (1 - discount) * total + discount ** (length - t) * 0.25
            else:
                expected = total / max(weights.sum(), 1e-9)
            assert float(actual[e, t]) == pytest.approx(expected if t < length else 0.0, rel=1e-3, abs=1e-4)


def test_state_values_of_constant_rewards_depend_on_termination():
    rewards, valid = np.ones((2, 50), np.float32), np.ones((2, 50), bool)
    actual = compute_values(rewards, valid, np.array([False, True]), 0.99, 0.0)
    np.testing.assert_allclose(actual[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(actual[1], 1 - 0.99 ** np.arange(50, 0, -1), rtol=1e-4)


@given(rewards=st.lists(st.sampled_from([0.0, 0.1, 1.1]), min_size=6, max_size=6))
@hypothesis_settings
def test_group_advantages_are_standard_scores(rewards):
    actual = group_advantages(np.array(rewards, np.float32), 3).reshape(2, 3)
    for group, scores in zip(np.array(rewards).reshape(2, 3), actual, strict=True):
        expected = (group - group.mean()) / group.std() if len(set(group)) > 1 else np.zeros(3)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("value", [0.1, 0.7, -0.7, 1.1])
def test_group_advantages_of_equal_rewards_are_zero(value):
    rewards = np.float32([value] * 10 + [1.0] * 9 + [np.nextafter(np.float32(1), np.float32(2))] + [0.0] * 9 + [1.0])
    result = jax.jit(group_advantages, static_argnums=1)(rewards, 10).reshape(3, 10)
    np.testing.assert_array_equal(result[:2], 0)
    np.testing.assert_allclose(result[2], [-1 / 3] * 9 + [3], rtol=1e-5)


def test_bootstrapped_returns_use_the_final_value_after_truncation_alone():
    rewards = np.float32([[1, 2, np.nan], [1, 2, np.inf], [1, 2, 4], [np.nan] * 3])
    length, terminated = np.int32([2, 2, 3, 0]), np.array([True, False, False, False])
    final_value = np.float32([1000, 8, 16, 5])
    result = jax.jit(bootstrapped_returns)(rewards, length, terminated, final_value, 0.5)
    expected = [[1 + 1, 2, 0], [1 + 1 + 2, 2 + 4, 0], [1 + 1 + 1 + 2, 2 + 2 + 4, 4 + 8], [0, 0, 0]]
    np.testing.assert_allclose(result, expected)
    unknown_value = np.where(terminated, np.float32(np.nan), final_value)
    unknown_result = jax.jit(bootstrapped_returns)(rewards, length, terminated, unknown_value, 0.5)
    np.testing.assert_array_equal(unknown_result, result)


def test_groups_must_divide_the_rewards():
    with pytest.raises(ValueError, match="groups of 0 do not divide"):
        group_advantages(np.zeros(6, np.float32), 0)
    with pytest.raises(ValueError, match="groups of 4 do not divide 6 rewards"):
        group_advantages(np.zeros(6, np.float32), 4)


def test_group_advantage_of_a_single_reward_is_zero():
    np.testing.assert_array_equal(group_advantages(np.float32([0.3, 5.0]), 1), 0)
