"""Returns, advantages and state values, against sums written out."""

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
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
numbers = st.lists(st.floats(-2, 2, width=32), min_size=T * E, max_size=T * E).map(
    lambda x: np.array(x, np.float32).reshape(T, E)
)
flags = st.lists(st.booleans(), min_size=T * E, max_size=T * E).map(lambda x: np.array(x).reshape(T, E))
advantages = jax.jit(generalized_advantages)
values = jax.jit(state_values)


@given(rewards=numbers, discount=st.floats(0.125, 1, width=32))
@QUICK
def test_returns_to_go_are_discounted_sums(rewards, discount):
    expected = [[sum(discount ** (k - t) * rewards[k, e] for k in range(t, T)) for t in range(T)] for e in range(E)]
    np.testing.assert_allclose(jax.jit(returns_to_go)(rewards.T, discount), expected, rtol=1e-4, atol=1e-4)


@given(numbers, numbers, numbers, flags, flags, st.floats(0.1, 0.99), st.floats(0, 1))
@QUICK
def test_advantages_are_weighted_sums_of_surprises_within_an_episode(
    rewards, before, after, terminated, truncated, discount, decay
):
    ended = terminated | truncated
    result = advantages(rewards, before, after, terminated, ended, discount, decay)
    for e in range(E):
        for t in range(T):
            expected, weight = 0.0, 1.0
            for k in range(t, T):
                following = 0.0 if terminated[k, e] else discount * after[k, e]
                expected += weight * (rewards[k, e] + following - before[k, e])
                weight *= discount * decay
                if ended[k, e]:
                    break
            assert float(result[t, e]) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_with_full_decay_an_advantage_is_the_return_less_the_value():
    rewards = np.ones((T, 1), np.float32)
    no, yes = np.zeros((T, 1), bool), np.arange(T)[:, None] == T - 1
    zero, high = np.zeros((T, 1), np.float32), np.full((T, 1), 7.0, np.float32)
    fallen = advantages(rewards, zero, high, yes, yes, 1.0, 1.0)
    # All values but the last cancel out of the sum of surprises.
    np.testing.assert_allclose(fallen[-1, 0], 1)
    cut = advantages(rewards, high, high, no, yes, 1.0, 1.0)
    np.testing.assert_allclose(cut[:, 0], np.arange(T, 0, -1))  # life would have gone on: 7 is still to come


@given(numbers.map(np.abs), st.lists(st.integers(0, T), min_size=E, max_size=E), st.booleans(), st.floats(0.1, 0.99))
@QUICK
def test_state_values_are_discounted_averages(rewards, lengths, terminated, discount):
    rewards, lengths = rewards.T / 2, np.array(lengths)
    valid = np.arange(T) < lengths[:, None]
    result = values(rewards, valid, np.full(E, terminated), discount, 0.25)
    for e, length in enumerate(lengths):
        for t in range(T):
            weights = discount ** np.arange(length - t) if t < length else np.zeros(1)
            total = float(np.sum(weights * rewards[e, t:length])) if t < length else 0.0
            if terminated:
                expected = (1 - discount) * total + discount ** (length - t) * 0.25
            else:
                expected = total / max(weights.sum(), 1e-9)
            assert float(result[e, t]) == pytest.approx(expected if t < length else 0.0, rel=1e-3, abs=1e-4)


def test_a_truncated_life_of_full_rewards_is_worth_all_and_a_short_one_little():
    ones, whole = np.ones((2, 50), np.float32), np.ones((2, 50), bool)
    result = values(ones, whole, np.array([False, True]), 0.99, 0.0)
    np.testing.assert_allclose(result[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(result[1], 1 - 0.99 ** np.arange(50, 0, -1), rtol=1e-4)


@given(rewards=st.lists(st.sampled_from([0.0, 0.1, 1.1]), min_size=6, max_size=6))
@QUICK
def test_advantages_of_a_group_are_its_standard_scores(rewards):
    result = group_advantages(np.array(rewards, np.float32), 3).reshape(2, 3)
    for group, scores in zip(np.array(rewards).reshape(2, 3), result, strict=True):
        expected = (group - group.mean()) / group.std() if len(set(group)) > 1 else np.zeros(3)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("value", [0.1, 0.7, -0.7, 1.1])
def test_a_group_of_equal_rewards_has_no_advantages(value):
    rewards = np.float32([value] * 10 + [1.0] * 9 + [np.nextafter(np.float32(1), np.float32(2))] + [0.0] * 9 + [1.0])
    result = jax.jit(group_advantages, static_argnums=1)(rewards, 10).reshape(3, 10)
    np.testing.assert_array_equal(result[:2], 0)
    np.testing.assert_allclose(result[2], [-1 / 3] * 9 + [3], rtol=1e-5)


def test_a_return_goes_on_after_a_truncation_alone():
    rewards = np.float32([[1, 2, np.nan], [1, 2, np.inf], [1, 2, 4], [np.nan] * 3])
    length, terminated = np.int32([2, 2, 3, 0]), np.array([True, False, False, False])
    final_value = np.float32([1000, 8, 16, 5])
    result = jax.jit(bootstrapped_returns)(rewards, length, terminated, final_value, 0.5)
    expected = [[1 + 1, 2, 0], [1 + 1 + 2, 2 + 4, 0], [1 + 1 + 1 + 2, 2 + 2 + 4, 4 + 8], [0, 0, 0]]
    np.testing.assert_allclose(result, expected)
    nothing_known = np.where(terminated, np.float32(np.nan), final_value)
    again = jax.jit(bootstrapped_returns)(rewards, length, terminated, nothing_known, 0.5)
    np.testing.assert_array_equal(again, result)


def test_groups_must_divide_the_rewards():
    with pytest.raises(ValueError, match="groups of 0 do not divide"):
        group_advantages(np.zeros(6, np.float32), 0)
    with pytest.raises(ValueError, match="groups of 4 do not divide 6 rewards"):
        group_advantages(np.zeros(6, np.float32), 4)


def test_one_of_a_kind_has_no_advantage():
    np.testing.assert_array_equal(group_advantages(np.float32([0.3, 5.0]), 1), 0)
