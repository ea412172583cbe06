"""Probes of thoughts, on thoughts whose meaning is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.automata import make_automaton, sample_words
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import ThinkingOutput, probing, thinking_model


def make_output(hidden, thoughts, kinds):
    """Thoughts [B, T] and hidden states [B, T + 1, D] of words of one length."""
    rows, count = thoughts.shape
    nothing = np.zeros((rows, count), np.float32)
    logits = np.zeros((rows, count, kinds), np.float32)
    thought_mask, steps = np.ones((rows, count), bool), np.full(rows, count + 1, np.float32)
    return ThinkingOutput(
        np.zeros((rows, 2), np.float32), hidden, thoughts, nothing, nothing, logits, thought_mask, steps
    )


def random_states(count=600, length=4, kinds=5):
    return np.random.default_rng(0).integers(0, kinds, (count, length), np.int32)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


explained = jax.jit(probing.compute_explained_variance, static_argnums=2)
MODEL = thinking_model(kind="discrete", num_symbols=6, num_answers=6, block=BlockConfig(width=16, num_heads=2))


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(1))


@pytest.fixture(scope="module")
def words():
    draw = jax.jit(lambda key: sample_words(make_automaton("s3"), key, jnp.full(32, 3), 3))
    return jax.device_get(draw(jax.random.key(0)))


def test_states_explain_all_of_what_only_they_make_and_little_of_noise():
    states = random_states()
    output = make_output(normal(1, 5, 8)[states], states[:, :-1], 5)
    assert float(explained(output, states, 5)) == pytest.approx(1.0, abs=1e-4)
    noise = make_output(normal(2, 600, 4, 8), states[:, :-1], 5)
    assert float(explained(noise, states, 5)) == pytest.approx(4 / 600, abs=0.01)
    assert float(explained(output, np.roll(states, 1, axis=0), 5)) < 0.05


def test_where_a_step_stands_is_no_thought():
    states = random_states()
    noise = 0.01 * normal(2, 600, 4, 8)
    assert float(explained(make_output(normal(1, 4, 8) + noise, states[:, :-1], 5), states, 5)) < 0.05


def test_hidden_states_without_a_thought_explain_nothing():
    states = random_states()
    output = make_output(normal(1, 5, 8)[states] + normal(3, 600, 4, 8), states[:, :-1], 5)
    mask = np.random.default_rng(4).random((600, 3)) < 0.7
    corrupted = output.hidden.copy()
    corrupted[:, :3][~mask] = np.nan
    clean, other = (
        explained(output._replace(thought_mask=mask, hidden=h), states, 5) for h in (output.hidden, corrupted)
    )
    assert 0.1 < float(clean) < 0.9
    assert float(clean) == float(other)


def test_confusion_counts_pairs_of_thought_and_state():
    states = random_states()
    thoughts = (states[:, :-1] + 1) % 5
    confusion = jax.jit(probing.compute_confusion, static_argnums=2)
    counts = np.asarray(confusion(make_output(np.zeros((600, 4, 8), np.float32), thoughts, 5), states, 5))
    assert counts.sum() == 600 * 3
    assert (counts == np.roll(np.diag(np.bincount(states[:, :-1].ravel())), 1, axis=0)).all()


def test_a_step_depends_on_symbols_and_a_symbol_that_stays_moves_nothing(params, words):
    dependence = jax.jit(functools.partial(probing.compute_dependence, MODEL))
    change = np.asarray(dependence(params, words, (words.symbols + 1) % 6))
    assert change.shape == (3, 3)
    assert (np.diag(change) > 0.1).all()
    assert (np.abs(dependence(params, words, words.symbols)) < 1e-6).all()  # but for rounding
