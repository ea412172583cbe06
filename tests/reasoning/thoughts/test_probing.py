"""Probes of thoughts, on thoughts that encode known states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.automata import make_automaton, sample_words
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import ThinkingOutput, probing, thinking_model


def make_output(hidden, thoughts, num_tokens):
    """A thinking output with thoughts [B, T] and hidden states [B, T + 1, D], for words of equal length."""
    num_rows, num_thoughts = thoughts.shape
    zeros = np.zeros((num_rows, num_thoughts), np.float32)
    logits = np.zeros((num_rows, num_thoughts, num_tokens), np.float32)
    thought_mask, num_steps = np.ones((num_rows, num_thoughts), bool), np.full(num_rows, num_thoughts + 1, np.float32)
    return ThinkingOutput(
        np.zeros((num_rows, 2), np.float32), hidden, thoughts, zeros, zeros, logits, thought_mask, num_steps
    )


def random_states(num_rows=600, length=4, num_states=5):
    return np.random.default_rng(0).integers(0, num_states, (num_rows, length), np.int32)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


compute_explained_variance = jax.jit(probing.compute_explained_variance, static_argnums=2)
MODEL = thinking_model(kind="discrete", num_symbols=6, num_answers=6, block=BlockConfig(width=16, num_heads=2))


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(1))


@pytest.fixture(scope="module")
def words():
    sample_fn = jax.jit(lambda key: sample_words(make_automaton("s3"), key, jnp.full(32, 3), 3))
    return jax.device_get(sample_fn(jax.random.key(0)))


def test_explained_variance_is_one_for_state_codes_and_small_for_noise():
    states = random_states()
    output = make_output(normal(1, 5, 8)[states], states[:, :-1], 5)
    assert float(compute_explained_variance(output, states, 5)) == pytest.approx(1.0, abs=1e-4)
    noise = make_output(normal(2, 600, 4, 8), states[:, :-1], 5)
    assert float(compute_explained_variance(noise, states, 5)) == pytest.approx(4 / 600, abs=0.01)
    assert float(compute_explained_variance(output, np.roll(states, 1, axis=0), 5)) < 0.05


def test_explained_variance_ignores_the_position_of_a_step():
    states = random_states()
    noise = 0.01 * normal(2, 600, 4, 8)
    assert float(compute_explained_variance(make_output(normal(1, 4, 8) + noise, states[:, :-1], 5), states, 5)) < 0.05


def test_explained_variance_ignores_masked_hidden_states():
    states = random_states()
    output = make_output(normal(1, 5, 8)[states] + normal(3, 600, 4, 8), states[:, :-1], 5)
    mask = np.random.default_rng(4).random((600, 3)) < 0.7
    corrupted_hidden = output.hidden.copy()
    corrupted_hidden[:, :3][~mask] = np.nan
    expected, actual = (
        compute_explained_variance(output._replace(thought_mask=mask, hidden=hidden), states, 5)
        for hidden in (output.hidden, corrupted_hidden)
    )
    assert 0.1 < float(expected) < 0.9
    assert float(expected) == float(actual)


def test_confusion_counts_pairs_of_thought_and_state():
    states = random_states()
    thoughts = (states[:, :-1] + 1) % 5
    compute_confusion = jax.jit(probing.compute_confusion, static_argnums=2)
    counts = np.asarray(compute_confusion(make_output(np.zeros((600, 4, 8), np.float32), thoughts, 5), states, 5))
    assert counts.sum() == 600 * 3
    assert (counts == np.roll(np.diag(np.bincount(states[:, :-1].ravel())), 1, axis=0)).all()


def test_dependence_is_zero_for_unchanged_symbols(params, words):
    compute_dependence = jax.jit(functools.partial(probing.compute_dependence, MODEL))
    dependence = np.asarray(compute_dependence(params, words, (words.symbols + 1) % 6))
    assert dependence.shape == (3, 3)
    assert (np.diag(dependence) > 0.1).all()
    assert (np.abs(compute_dependence(params, words, words.symbols)) < 1e-6).all()  # except for rounding
