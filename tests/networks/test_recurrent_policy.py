"""Policies with a memory."""

import jax
import numpy as np
import pytest

from thinking.networks.blocks import BlockConfig
from thinking.networks.recurrent_policy import RecurrentPolicyInputs, recurrent_policy
from thinking.types import Box, Discrete

BLOCK = BlockConfig(8, 2, feed_forward=8)


def make_rows(key, rows=2, steps=7):
    """Observations [B, T, 3] of several episodes, and where they start."""
    is_start = np.zeros((rows, steps), bool)
    is_start[0, 3:4] = is_start[1, 5:6] = True
    return np.asarray(jax.random.normal(key, (rows, steps, 3))), is_start


def draw_params(policy):
    """Random parameters, without compiling `init`."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.3).astype(leaf.dtype), shapes)


@pytest.mark.parametrize(("mixers", "space"), [(("gru",), Box(2)), (("memory", "linear_recurrence"), Discrete(4))])
def test_rows_are_evaluated_as_they_were_acted(mixers, space):
    policy = recurrent_policy(3, space, mixers, BLOCK)
    params = draw_params(policy)
    observation, is_start = make_rows(jax.random.key(1))
    first = jax.device_get(policy.init_state(2))
    act, compute_value = jax.jit(policy.act), jax.jit(policy.value)
    # Rows may begin within an episode.
    before = state = act(params, jax.random.key(9), first, observation[:, 0])[0]
    actions, log_probs, values = [], [], []
    for step in range(observation.shape[1]):
        state = jax.tree.map(
            lambda new, old, step=step: np.where(is_start[:, step].reshape(-1, *[1] * (old.ndim - 1)), new, old),
            first,
            state,
        )
        values.append(compute_value(params, state, observation[:, step]))
        state, action, log_prob = act(params, jax.random.key(step), state, observation[:, step])
        actions.append(action)
        log_probs.append(log_prob)
    evaluation = jax.jit(policy.evaluate_actions)(
        params, RecurrentPolicyInputs(before, observation, is_start), np.stack(actions, axis=1)
    )
    np.testing.assert_allclose(evaluation.log_prob, np.stack(log_probs, axis=1), atol=2e-5)
    np.testing.assert_allclose(evaluation.value, np.stack(values, axis=1), atol=2e-5)


def test_what_was_seen_changes_the_policy_unless_it_is_pointwise():
    observation, _ = make_rows(jax.random.key(1), steps=2)
    other = observation + np.float32([[1], [0]])[None]
    is_start = np.zeros((2, 2), bool)
    for name in ("gru", "pointwise"):
        policy = recurrent_policy(3, Discrete(4), (name,), BLOCK)
        params = draw_params(policy)
        evaluate, state = jax.jit(policy.evaluate_actions), policy.init_state(2)
        values = [
            np.asarray(
                evaluate(params, RecurrentPolicyInputs(state, each, is_start), np.zeros((2, 2), np.int32)).value
            )[:, 1]
            for each in (observation, other)
        ]
        assert np.array_equal(*values) == (name == "pointwise")


def test_the_greedy_action_is_the_most_likely_one():
    policy = recurrent_policy(3, Discrete(4), ("gru",), BLOCK)
    params = draw_params(policy)
    observation, is_start = make_rows(jax.random.key(2), steps=1)
    state = policy.init_state(2)
    _, greedy = jax.jit(policy.act_greedily)(params, state, observation[:, 0])
    evaluate = jax.jit(policy.evaluate_actions)
    log_probs = [
        np.asarray(
            evaluate(params, RecurrentPolicyInputs(state, observation, is_start), np.full((2, 1), action)).log_prob
        )[:, 0]
        for action in range(4)
    ]
    np.testing.assert_array_equal(greedy, np.argmax(log_probs, axis=0))
    np.testing.assert_allclose(np.sum(np.exp(log_probs), axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("mixers", [(), ("attention",), ("gru", "attention")])
def test_mixers_without_a_state_are_refused(mixers):
    with pytest.raises(ValueError, match="give at least one, each with a state"):
        recurrent_policy(3, Discrete(4), mixers, BLOCK)
