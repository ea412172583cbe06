"""The page of thoughts over training: what it holds, and that it needs nothing else."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.automata import make_automaton, sample_words
from thinking.recipes.think_tokens.thoughts_page import MAX_FRAMES, MAX_FREQUENT, make_record, render_page

S3 = make_automaton("s3")
WORDS = sample_words(S3, jax.random.key(0), jnp.full(12, 3), 3)


def told(steps, discrete):
    """Records of thoughts that come to be the true states in the end."""
    states = np.asarray(WORDS.states)
    for step in steps:
        said = states if step == steps[-1] else (states + step) % 6
        thoughts = np.pad(said[:, :-1], ((0, 0), (0, 1)), constant_values=-1) if discrete else np.full_like(said, -1)
        (record,) = make_record(np.stack([said, thoughts]))
        yield {"step": step, **record}


@pytest.fixture(scope="module")
def made():
    steps = list(range(50, 5001, 50))
    return render_page({"discrete": list(told(steps, True)), "continuous": list(told([50, 100], False))}, WORDS, S3)


def test_a_page_loads_nothing_from_elsewhere(made):
    assert made.startswith("<!DOCTYPE html>")
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", made)
    assert made.count("<h1>") == 1


def test_moments_are_spread_over_training_and_the_last_is_among_them(made):
    labels = [int(label) for label in re.findall(r'"label":"(\d+)"', made)]
    first, second = labels[:-2], labels[-2:]
    assert len(first) == MAX_FRAMES
    assert first[0] == 50
    assert first[-1] == 5000
    assert np.diff(first).max() <= 2 * np.diff(first).min()
    assert second == [50, 100]


def test_cells_say_thought_and_answer_and_what_is_true(made):
    cells = json.loads(re.search(r'"hovertext":(\[\[.*?\]\])', made)[1])
    for row, symbols, states in zip(cells, WORDS.symbols.tolist(), WORDS.states.tolist(), strict=False):
        for step, (cell, symbol, state) in enumerate(zip(row, symbols, states, strict=True)):
            here = f"answer {S3.state_names[state]}" if step == 2 else f"here {state}"
            assert cell == f"symbol {S3.symbol_names[symbol]}<br>true state {S3.state_names[state]}<br>{here}"


def test_only_the_thoughts_and_states_met_most_are_set_against_each_other():
    many = make_automaton("modular:200")
    words = sample_words(many, jax.random.key(0), jnp.full(150, 2), 2)
    thoughts = np.pad(np.asarray(words.states)[:, :-1], ((0, 0), (0, 1)), constant_values=-1)
    (record,) = make_record(np.stack([np.asarray(words.states), thoughts]))
    made = render_page({"discrete": [{"step": 1, **record}]}, words, many)
    (columns,) = {tuple(json.loads(found)) for found in re.findall(r'"x":(\["[^]]*\])', made)}
    met = np.bincount(np.asarray(words.states).ravel(), minlength=200)
    assert len(columns) == MAX_FREQUENT
    assert sorted(met[[int(state) for state in columns]]) == sorted(met)[-MAX_FREQUENT:]


def test_what_was_not_looked_at_leaves_no_record():
    assert make_record(np.full((2, 4, 3), -1)) == []
