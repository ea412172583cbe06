"""Policies against SciPy's distributions."""

import jax
import numpy as np
import pytest
from scipy import stats

from thinking.kernels import Box, Discrete
from thinking.networks.actor_critic import perceptron_policy

OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_discrete_actions_follow_their_probabilities():
    policy = perceptron_policy(3, Discrete(4), (8,))
    params = jax.jit(policy.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.asarray(leaf) * 20, params)  # the initial policy is almost uniform
    sample_actions = jax.jit(jax.vmap(lambda key: policy.act(params, key, OBSERVATIONS)))
    actions, log_probs = jax.device_get(sample_actions(jax.random.split(jax.random.key(1), 4000)))
    outputs = jax.jit(policy.evaluate_actions)(
        params, OBSERVATIONS[:, None].repeat(4, 1), np.tile(np.arange(4, dtype=np.int32), (5, 1))
    )
    outputs = jax.device_get(outputs)
    probabilities = np.exp(outputs.log_prob)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    for row in range(5):
        frequencies = np.bincount(actions[:, row], minlength=4) / 4000
        np.testing.assert_allclose(frequencies, probabilities[row], atol=0.03)
        np.testing.assert_allclose(np.exp(log_probs[:, row]), probabilities[row][actions[:, row]], rtol=1e-4)
        assert outputs.entropy[row, 0] == pytest.approx(stats.entropy(probabilities[row]), rel=1e-4)
    np.testing.assert_array_equal(jax.jit(policy.act_greedily)(params, OBSERVATIONS), probabilities.argmax(axis=1))
    np.testing.assert_allclose(jax.jit(policy.value)(params, OBSERVATIONS), outputs.value[:, 0], rtol=1e-5)


def test_continuous_actions_are_normal():
    policy = perceptron_policy(3, Box(2), (8,))
    params = jax.jit(policy.init)(jax.random.key(0)) | {"log_std": np.float32([-0.5, 0.3])}
    action, log_prob = jax.jit(policy.act)(params, jax.random.key(1), OBSERVATIONS)
    mean, std = np.asarray(jax.jit(policy.act_greedily)(params, OBSERVATIONS)), np.exp([-0.5, 0.3])
    distribution = stats.norm(mean, std)
    np.testing.assert_allclose(log_prob, distribution.logpdf(action).sum(axis=1), rtol=1e-4)
    outputs = jax.jit(policy.evaluate_actions)(params, OBSERVATIONS, action)
    np.testing.assert_allclose(outputs.log_prob, log_prob, rtol=1e-5)
    np.testing.assert_allclose(outputs.entropy, distribution.entropy().sum(axis=1), rtol=1e-4)
    assert outputs.value.shape == (5,)
