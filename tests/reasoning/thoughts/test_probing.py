"""Probes of thoughts, on thoughts whose meaning is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.automata import automaton, draw_words
from thinking.networks.blocks import BlockConfig
from thinking.reasoning.thoughts import Thinking, probing, thinker


def made_up(hidden, thoughts, kinds):
    """Thoughts [B, T] and hidden states [B, T + 1, D] of words of one length."""
    rows, count = thoughts.shape
    nothing = jnp.zeros((rows, count))
    logits = jnp.zeros((rows, count, kinds))
    made, steps = jnp.ones((rows, count), bool), jnp.full(rows, count + 1.0)
    return Thinking(jnp.zeros((rows, 2)), hidden, thoughts, nothing, nothing, logits, made, steps)


def states_of(count=600, length=4, kinds=5):
    return jax.random.randint(jax.random.key(0), (count, length), 0, kinds)


def test_states_explain_all_of_what_only_they_make_and_little_of_noise():
    states = states_of()
    table = jax.random.normal(jax.random.key(1), (5, 8))
    told = made_up(table[states], states[:, :-1], 5)
    assert float(probing.explained(told, states, 5)) == pytest.approx(1.0, abs=1e-4)
    noise = made_up(jax.random.normal(jax.random.key(2), (600, 4, 8)), states[:, :-1], 5)
    assert float(probing.explained(noise, states, 5)) == pytest.approx(4 / 600, abs=0.01)
    assert float(probing.explained(told, jnp.roll(states, 1, axis=0), 5)) < 0.05


def test_where_a_step_stands_is_no_thought():
    states = states_of()
    placed = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (4, 8))[None], (600, 4, 8))
    noise = 0.01 * jax.random.normal(jax.random.key(2), (600, 4, 8))
    assert float(probing.explained(made_up(placed + noise, states[:, :-1], 5), states, 5)) < 0.05


def test_confusion_counts_pairs_of_thought_and_state():
    states = states_of()
    thoughts = (states[:, :-1] + 1) % 5
    counts = np.asarray(probing.confusion(made_up(jnp.zeros((600, 4, 8)), thoughts, 5), states, 5))
    assert counts.sum() == 600 * 3
    assert (counts == np.roll(np.diag(np.bincount(np.asarray(states[:, :-1]).ravel())), 1, axis=0)).all()


def test_a_step_depends_on_symbols_and_a_symbol_that_stays_moves_nothing():
    machine = automaton("s3")
    model = thinker(kind="discrete", symbols=6, answers=6, block=BlockConfig(width=16, heads=2))
    words = draw_words(machine, jax.random.key(0), jnp.full(32, 3), 3)
    params = model.init(jax.random.key(1))
    moved = np.asarray(probing.dependence(model, params, words, (words.symbols + 1) % 6))
    assert moved.shape == (3, 3)
    assert (np.diag(moved) > 0.1).all()
    assert (np.abs(probing.dependence(model, params, words, words.symbols)) < 1e-6).all()  # but for rounding
