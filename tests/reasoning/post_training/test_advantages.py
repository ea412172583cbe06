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

MAX_NEW_TOKENS = 4


def make_completions(lengths, value=0.0):
    mask = np.arange(MAX_NEW_TOKENS)[None] < np.array(lengths)[:, None]
    zeros = np.zeros(mask.shape, np.float32)
    return Completions(
        mask * 7, np.array(lengths), zeros, np.where(mask, np.float32(value), 0), np.ones(len(lengths), bool)
    )


def test_return_to_go_advantages_are_the_reward_at_every_token():
    result = jit(return_to_go_advantages)(make_completions([2, 4]), np.float32([1, 0.5]))
    np.testing.assert_allclose(result.value_target, [[1, 1, 0, 0], [0.5] * 4])
    np.testing.assert_array_equal(result.mask, np.asarray(result.value_target) > 0)


def test_gae_advantages_end_at_the_last_token():
    value = np.array([[0.2, 0.4, 0, 0], [0.1, 0.2, 0.3, 0.4]], np.float32)
    completions = make_completions([2, 4])._replace(value=value)
    full_result = jit(gae_advantages(1.0))(completions, np.float32([1, 0]))
    np.testing.assert_allclose(full_result.advantage, [[0.8, 0.6, 0, 0], [-0.1, -0.2, -0.3, -0.4]], atol=1e-6)
    np.testing.assert_allclose(full_result.value_target, [[1, 1, 0, 0], [0] * 4], atol=1e-6)
    one_step_result = jit(gae_advantages(0.0))(completions, np.float32([1, 0]))
    np.testing.assert_allclose(one_step_result.advantage, [[0.2, 0.6, 0, 0], [0.1, 0.1, 0.1, -0.4]], atol=1e-6)


def test_group_relative_and_best_of_group_advantages():
    completions, rewards = make_completions([1, 2, 1, 2]), np.float32([1, 0, 0.4, 0.2])
    result = jit(group_relative(2))(completions, rewards)
    np.testing.assert_allclose(
        result.advantage, [[1, 0, 0, 0], [-1, -1, 0, 0], [1, 0, 0, 0], [-1, -1, 0, 0]], atol=1e-6
    )
    np.testing.assert_array_equal(result.value_target, rewards[:, None] * result.mask)
    best_result = jit(best_of_group(2))(completions, rewards, outcome=np.float32([1, 0, 0, 0]))
    np.testing.assert_array_equal(best_result.advantage, [[1, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4])
    np.testing.assert_array_equal(best_result.mask, result.mask)
    np.testing.assert_array_equal(best_result.value_target, result.value_target)


def test_best_of_group_is_the_best_correct_completion():
    # A wrong answer with full process and format rewards has the highest total; in the last group all are wrong.
    total = np.float32([1.5, 1.0, 1.2, 1.6, 0.5, -2.0, 3.0, 2.0, 1.0])
    outcome = np.float32([0, 1, 1, 0, 0, 1, 0, 0, 0])
    best_result = jit(best_of_group(3))(
        make_completions([1] * 9), total, outcome=outcome, process=np.ones(9, np.float32)
    )
    np.testing.assert_array_equal(best_result.advantage[:, 0], [0, 0, 1, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_padding_values_do_not_change_gae_advantages(bad):
    value = np.array([[0.2, 0.4, bad, bad], [0.1, 0.2, 0.3, 0.4]], np.float32)
    result = jit(gae_advantages(0.5))(make_completions([2, 4])._replace(value=value), np.float32([1, 0]))
    np.testing.assert_allclose(result.advantage[0], [0.2 + 0.3, 0.6, 0, 0], atol=1e-6)
    np.testing.assert_allclose(result.value_target[0], [0.7, 1, 0, 0], atol=1e-6)


def test_gae_advantages_are_reward_minus_value_by_default():
    completions = make_completions([2], value=0.25)
    result = jit(gae_advantages())(completions, np.float32([1]))
    np.testing.assert_allclose(result.advantage, [[0.75, 0.75, 0, 0]])
    np.testing.assert_array_equal(result.action, completions.tokens)
    np.testing.assert_array_equal(result.log_prob, completions.log_prob)
