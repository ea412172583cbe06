"""Sequence problems: every label against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.automata import make_automaton
from thinking.environments.sequences import (
    associative_recall,
    automaton_words,
    needle,
    nested_arithmetic,
    selective_copying,
)


def sample(family, num_rows, max_size, size=None):
    size = max_size if size is None else size
    draw = jax.jit(jax.vmap(lambda key: family.sample(key, max_size, jnp.int32(size))))
    rows = jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(0), num_rows)))
    assert rows.tokens.shape == (num_rows, family.count_tokens(max_size))
    assert rows.tokens.max() < family.vocab_size
    assert rows.targets.max() < family.vocab_size
    assert min(rows.tokens.min(), rows.targets.min()) >= 0
    return rows


@pytest.mark.parametrize("size", [2, 5, 12])
def test_words_are_labelled_with_the_state_after_each_symbol(size):
    automaton = make_automaton("s3")
    rows = sample(automaton_words(automaton), 20, 12, size)
    for tokens, targets, weights, segments in zip(*rows, strict=True):
        for word in range(1, 13 // (size + 1) + 1):
            start, *symbols = tokens[segments == word].tolist()
            states = targets[segments == word].tolist()
            assert (start, len(symbols)) == (0, size)
            state = automaton.initial_state
            for symbol, target in zip([None, *symbols], states, strict=True):
                state = state if symbol is None else automaton.table[state, symbol - 1]
                assert target == state
        assert weights.all()


@pytest.mark.parametrize("size", [2, 5, 40])
def test_recalled_values_are_those_of_the_keys_of_the_same_problem(size):
    rows, num_queries = sample(associative_recall(64), 20, 40, size), min(size, 32)
    for tokens, targets, weights, segments in zip(*rows, strict=True):
        for problem in range(1, len(tokens) // (2 * size + num_queries) + 1):
            is_problem = segments == problem
            pairs, asked = np.split(tokens[is_problem], [2 * size])
            values = dict(pairs.reshape(size, 2).tolist())
            assert len(values) == size
            assert weights[is_problem].tolist() == [0] * 2 * size + [1] * num_queries
            assert len(set(asked.tolist())) == num_queries
            assert [values[token] for token in asked] == targets[is_problem][2 * size :].tolist()
    first = rows.tokens[:, 2 * size] == rows.tokens[:, 0]
    assert 0 < first.sum() < 20 or size == 40  # the order of the queries is not that of the pairs


def test_more_pairs_than_keys_are_refused():
    with pytest.raises(ValueError, match="give at most 4"):
        associative_recall(4).sample(jax.random.key(0), 5, jnp.int32(5))


def test_copied_symbols_are_those_among_the_blanks():
    rows = sample(selective_copying(), 20, 24)
    for tokens, targets, weights, _ in zip(*rows, strict=True):
        stream = tokens[:-8]
        assert (stream == 0).sum() == 24
        assert (tokens[-8:] == 1).all()
        assert stream[stream > 0].tolist() == targets[-8:].tolist()
        assert weights.tolist() == [0] * 32 + [1] * 8
    assert len({tuple(np.flatnonzero(row[:-8])) for row in rows.tokens}) > 10


def test_the_needle_is_the_symbol_after_the_marker():
    rows = sample(needle(), 50, 10)
    places = set()
    for tokens, targets, weights, _ in zip(*rows, strict=True):
        (place,) = np.flatnonzero(tokens == 0)
        places.add(int(place))
        assert tokens[-1] == 1
        assert (np.delete(tokens[:-1], place) >= 2).all()
        assert targets[-1] == tokens[place + 1]
        assert weights.tolist() == [0] * 11 + [1]
    assert len(places) > 5
    assert max(places) < 10


@pytest.mark.parametrize("size", [1, 2, 9])
def test_nested_expressions_are_complete_and_labelled_with_the_top_of_their_stack(size):
    rows = sample(nested_arithmetic(), 50, size)
    assert (rows.tokens[:, 0] == 8).all()
    assert (rows.targets[:, 0] == 0).all()
    depths = set()
    for tokens, targets, weights, _ in zip(*rows, strict=True):
        stack, deepest = [], 0
        for token, target in zip(tokens[1:], targets[1:], strict=True):
            if token < 5:
                stack.append(int(token))
            else:
                second, first = stack.pop(), stack.pop()
                stack.append([first + second, first - second, first * second][token - 5] % 5)
            deepest = max(deepest, len(stack))
            assert target == stack[-1]
        assert len(stack) == 1
        assert weights.all()
        depths.add(deepest)
    assert len(depths) >= min(size, 3) - (size > 1)
