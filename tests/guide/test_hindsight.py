"""Hindsight relabelling: the examples of each layer from a path, against the rule written out pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide import Path
from thinking.guide.abstraction import skip_step
from thinking.guide.hindsight import (
    count_value_examples,
    flatten_examples,
    make_examples,
    make_goal_pairs,
    select_pairs,
)
from thinking.guide.scoring import monte_carlo, path_score

T, LAYERS, C, DISCOUNT, HORIZON = 7, 3, 3, 0.5, 4


@st.composite
def paths(draw):
    """A path, its length, and nested pivots with both ends on all levels."""
    length = draw(st.integers(0, T))
    states = np.array(draw(st.lists(st.integers(0, 5), min_size=T, max_size=T)), np.int32)
    levels, pivots = [], list(range(length))
    for _ in range(LAYERS):
        levels.append(np.isin(np.arange(T), pivots))
        pivots = [t for t in pivots if t in (0, length - 1) or draw(st.booleans())]
    return states, length, np.stack(levels)


def scored_examples(path, items, levels, layer, horizon):
    """Examples with their Monte Carlo scores."""
    pairs = select_pairs(path, layer, LAYERS, horizon)
    rows = make_examples(path, items, levels, layer, C, pairs)
    return rows._replace(score=path_score(monte_carlo(DISCOUNT), path, pairs))


def make_example_fn(horizon, space=jnp.int32):
    """Examples of all layers, with actions 10 t + 1, and contexts that name index t as t + 100."""

    @jax.jit
    def teach(states, length, levels):
        actions = 10 * jnp.arange(T, dtype=jnp.int32) + 1
        rows = range(LAYERS)
        places = jnp.arange(T) + 100
        with_actions = scored_examples(Path(states, length, actions), places, levels, 0, horizon)
        return with_actions, [scored_examples(Path(states, length), places, levels, layer, horizon) for layer in rows]

    return teach


def expected_examples(states, length, levels, layer, horizon):
    """{(t, j): (index of the value on the path, indices in the context)} of all examples that are to be used."""
    own_pivots = np.flatnonzero(levels[layer]).tolist()
    found = {}
    for t in range(length):
        for j in range(t + 1, min(length, t + horizon + 1)):
            if states[t] == states[j]:
                continue  # a goal that is the very state
            if layer + 1 < len(levels):
                above = np.flatnonzero(levels[layer + 1]).tolist()
                nearer = j <= min(p for p in above if p > t)
                earlier = [p for p in above if p < j]
                toward_pivot = j in above and t >= (earlier[-2] if len(earlier) > 1 else 0)
                if not (nearer or toward_pivot):
                    continue
            value = min(min(p for p in own_pivots if p > t), j)  # a sub-goal never lengthens a path
            context = [p for p in own_pivots if p <= t] if t in own_pivots else list(range(t + 1))
            longest = 1 + (t + j) % C  # contexts of every length are trained in turn
            found[t, j] = value, context[-longest:]
    return found


examples_all, examples_near = make_example_fn(None), make_example_fn(HORIZON)


@pytest.mark.parametrize(("teach", "horizon"), [(examples_all, T), (examples_near, HORIZON)], ids=["all", "near"])
@given(drawn=paths())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_each_layer_learns_its_next_pivot_toward_every_goal_that_is_its_own(teach, horizon, drawn):
    states, length, levels = drawn
    with_actions, by_layer = jax.device_get(teach(states, length, levels))
    ts, js = make_goal_pairs(T, horizon)
    for layer, rows in enumerate(by_layer):
        expected = expected_examples(states, length, levels, layer, horizon)
        if layer == 0:  # the pairs of the lowest layer are the same with actions, but for steps that lead nowhere
            used = set(zip(ts[with_actions.mask > 0].tolist(), js[with_actions.mask > 0].tolist(), strict=True))
            assert used == set(expected)
            np.testing.assert_array_equal(with_actions.value, 10 * ts + 1)
        expected = {pair: example for pair, example in expected.items() if states[example[0]] != states[pair[0]]}
        used = set(zip(ts[rows.mask > 0].tolist(), js[rows.mask > 0].tolist(), strict=True))
        assert used == set(expected)
        assert set(rows.mask.tolist()) <= {0.0, 1.0}
        for row, (t, j) in enumerate(zip(ts.tolist(), js.tolist(), strict=True)):
            if (t, j) not in expected:
                continue
            value, context = expected[t, j]
            assert rows.target[row] == states[j]
            assert rows.value[row] == states[value]
            assert rows.score[row] == pytest.approx(DISCOUNT ** (j - t))
            assert rows.context.length[row] == len(context)
            assert rows.context.items[row, C - len(context) :].tolist() == [place + 100 for place in context]


@pytest.mark.parametrize("length", [0, 1, 2, 5, T])
def test_the_top_layer_learns_from_every_pair_of_a_path_without_repetition(length):
    levels = np.stack([np.arange(T) < length] * LAYERS)
    _, by_layer = examples_all(np.arange(T, dtype=np.int32), length, levels)
    assert int(jnp.sum(by_layer[-1].mask)) == length * (length - 1) // 2


def test_pairs_are_all_those_within_the_horizon():
    assert list(zip(*(p.tolist() for p in make_goal_pairs(4, None)), strict=True)) == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3),
    ]  # fmt: skip
    assert list(zip(*(p.tolist() for p in make_goal_pairs(4, 1)), strict=True)) == [(0, 1), (1, 2), (2, 3)]


def test_vectors_give_the_examples_that_indices_give():
    states = np.array([0, 1, 0, 2, 3, 3, 1], np.int32)
    levels = np.stack([np.arange(T) < 6, np.isin(np.arange(T), [0, 2, 5]), np.isin(np.arange(T), [0, 5])])
    code = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)

    def teach(items):
        return [scored_examples(Path(items, 6), items, levels, layer, None) for layer in range(LAYERS)]

    for index, vector in zip(jax.jit(teach)(states), jax.jit(teach)(code[states]), strict=True):
        np.testing.assert_array_equal(index.mask, vector.mask)
        np.testing.assert_array_equal(code[index.target], vector.target)
        np.testing.assert_array_equal(code[index.value], vector.value)
        np.testing.assert_array_equal(code[index.context.items], vector.context.items)


def test_examples_of_many_paths_become_one_batch():
    batch = flatten_examples({"a": np.arange(12).reshape(2, 3, 2), "b": np.arange(6).reshape(2, 3)})
    assert batch["a"].tolist() == np.arange(12).reshape(6, 2).tolist()
    assert batch["b"].tolist() == list(range(6))


def test_examples_of_a_window_are_all_pairs_of_states_and_the_top_layers_values():
    for size in (2, 3, 8):
        pairs = size * (size + 1) // 2  # t < j among size + 1 states
        assert count_value_examples(skip_step(size), 2, size + 1) == pairs + size
        assert count_value_examples(skip_step(size), 1, 2) == 1
