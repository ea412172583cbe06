"""The page of thoughts over training: its content, and that it is self-contained."""

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


def make_records(steps, discrete):
    """Records whose answers and thoughts equal the true states at the last step."""
    states = np.asarray(WORDS.states)
    for step in steps:
        answers = states if step == steps[-1] else (states + step) % 6
        thoughts = (
            np.pad(answers[:, :-1], ((0, 0), (0, 1)), constant_values=-1) if discrete else np.full_like(answers, -1)
        )
        (record,) = make_record(np.stack([answers, thoughts]))
        yield {"step": step, **record}


@pytest.fixture(scope="module")
def page():
    steps = list(range(50, 5001, 50))
    return render_page(
        {"discrete": list(make_records(steps, True)), "continuous": list(make_records([50, 100], False))}, WORDS, S3
    )


def test_page_loads_no_external_resources(page):
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    assert page.count("<h1>") == 1


def test_frames_are_spread_over_training_and_include_the_last(page):
    labels = [int(label) for label in re.findall(r'"label":"(\d+)"', page)]
    first, second = labels[:-2], labels[-2:]
    assert len(first) == MAX_FRAMES
    assert first[0] == 50
    assert first[-1] == 5000
    assert np.diff(first).max() <= 2 * np.diff(first).min()
    assert second == [50, 100]


def test_cells_show_symbols_states_and_answers(page):
    cells = json.loads(re.search(r'"hovertext":(\[\[.*?\]\])', page)[1])
    for row, symbols, states in zip(cells, WORDS.symbols.tolist(), WORDS.states.tolist(), strict=False):
        for step, (cell, symbol, state) in enumerate(zip(row, symbols, states, strict=True)):
            answer = f"answer {S3.state_names[state]}" if step == 2 else f"here {state}"
            assert cell == f"symbol {S3.symbol_names[symbol]}<br>true state {S3.state_names[state]}<br>{answer}"


def test_confusion_shows_only_the_most_frequent_states():
    automaton = make_automaton("modular:200")
    words = sample_words(automaton, jax.random.key(0), jnp.full(150, 2), 2)
    thoughts = np.pad(np.asarray(words.states)[:, :-1], ((0, 0), (0, 1)), constant_values=-1)
    (record,) = make_record(np.stack([np.asarray(words.states), thoughts]))
    page = render_page({"discrete": [{"step": 1, **record}]}, words, automaton)
    (columns,) = {tuple(json.loads(match)) for match in re.findall(r'"x":(\["[^]]*\])', page)}
    counts = np.bincount(np.asarray(words.states).ravel(), minlength=200)
    assert len(columns) == MAX_FREQUENT
    assert sorted(counts[[int(state) for state in columns]]) == sorted(counts)[-MAX_FREQUENT:]


def test_empty_sample_gives_no_record():
    assert make_record(np.full((2, 4, 3), -1)) == []
