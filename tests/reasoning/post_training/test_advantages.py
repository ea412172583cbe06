"""Advantages of tokens, by hand."""

import numpy as np
import pytest
from tests.kernels.quick import jit

from thinking.generation.completions import Completions
from thinking.reasoning.post_training.advantages import (
    best_of_group,
    gae_advantages,
    group_relative,
    return_to_go_advantages,
)

NEW = 4


def completions(lengths, value=0.0):
    mask = np.arange(NEW)[None] < np.array(lengths)[:, None]
    blank = np.zeros(mask.shape, np.float32)
    return Completions(
        mask * 7, np.array(lengths), blank, np.where(mask, np.float32(value), 0), np.ones(len(lengths), bool)
    )


def test_credit_without_a_value_is_the_reward_at_every_token():
    result = jit(return_to_go_advantages)(completions([2, 4]), np.float32([1, 0.5]))
    np.testing.assert_allclose(result.value_target, [[1, 1, 0, 0], [0.5] * 4])
    np.testing.assert_array_equal(result.mask, np.asarray(result.value_target) > 0)


def test_credit_over_values_ends_at_the_last_token():
    value = np.array([[0.2, 0.4, 0, 0], [0.1, 0.2, 0.3, 0.4]], np.float32)
    generated = completions([2, 4])._replace(value=value)
    whole = jit(gae_advantages(1.0))(generated, np.float32([1, 0]))
    np.testing.assert_allclose(whole.advantage, [[0.8, 0.6, 0, 0], [-0.1, -0.2, -0.3, -0.4]], atol=1e-6)
    np.testing.assert_allclose(whole.value_target, [[1, 1, 0, 0], [0] * 4], atol=1e-6)
    one = jit(gae_advantages(0.0))(generated, np.float32([1, 0]))
    np.testing.assert_allclose(one.advantage, [[0.2, 0.6, 0, 0], [0.1, 0.1, 0.1, -0.4]], atol=1e-6)


def test_credit_by_group_and_by_the_best():
    generated, rewards = completions([1, 2, 1, 2]), np.float32([1, 0, 0.4, 0.2])
    result = jit(group_relative(2))(generated, rewards)
    np.testing.assert_allclose(
        result.advantage, [[1, 0, 0, 0], [-1, -1, 0, 0], [1, 0, 0, 0], [-1, -1, 0, 0]], atol=1e-6
    )
    np.testing.assert_array_equal(result.value_target, rewards[:, None] * result.mask)
    best = jit(best_of_group(2))(generated, rewards, outcome=np.float32([1, 0, 0, 0]))
    np.testing.assert_array_equal(best.advantage, [[1, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4])
    np.testing.assert_array_equal(best.mask, result.mask)
    np.testing.assert_array_equal(best.value_target, result.value_target)


def test_of_a_group_the_best_correct_completion_is_imitated_and_never_a_wrong_one():
    # A wrong answer with full process and format rewards has the highest total; in the last group all are wrong.
    total = np.float32([1.5, 1.0, 1.2, 1.6, 0.5, -2.0, 3.0, 2.0, 1.0])
    outcome = np.float32([0, 1, 1, 0, 0, 1, 0, 0, 0])
    best = jit(best_of_group(3))(completions([1] * 9), total, outcome=outcome, process=np.ones(9, np.float32))
    np.testing.assert_array_equal(best.advantage[:, 0], [0, 0, 1, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_past_the_end_change_no_advantage(bad):
    value = np.array([[0.2, 0.4, bad, bad], [0.1, 0.2, 0.3, 0.4]], np.float32)
    result = jit(gae_advantages(0.5))(completions([2, 4])._replace(value=value), np.float32([1, 0]))
    np.testing.assert_allclose(result.advantage[0], [0.2 + 0.3, 0.6, 0, 0], atol=1e-6)
    np.testing.assert_allclose(result.value_target[0], [0.7, 1, 0, 0], atol=1e-6)


def test_by_default_an_advantage_is_reward_minus_value():
    generated = completions([2], value=0.25)
    result = jit(gae_advantages())(generated, np.float32([1]))
    np.testing.assert_allclose(result.advantage, [[0.75, 0.75, 0, 0]])
    np.testing.assert_array_equal(result.action, generated.tokens)
    np.testing.assert_array_equal(result.log_prob, generated.log_prob)
