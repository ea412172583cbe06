"""Hindsight relabelling: the training examples of each layer, against plain Python, pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide import Trajectories
from thinking.guide.abstraction import skip_step
from thinking.guide.hindsight import (
    count_examples,
    flatten_examples,
    make_examples,
    make_goal_pairs,
    select_pairs,
)
from thinking.guide.scoring import monte_carlo, score_trajectory

T, LAYERS, C, DISCOUNT, HORIZON = 7, 3, 3, 0.5, 4


@st.composite
def trajectories(draw):
    """A trajectory, its length, and nested pivots with both ends on all levels."""
    length = draw(st.integers(0, T))
    states = np.array(draw(st.lists(st.integers(0, 5), min_size=T, max_size=T)), np.int32)
    levels, pivots = [], list(range(length))
    for _ in range(LAYERS):
        levels.append(np.isin(np.arange(T), pivots))
        pivots = [t for t in pivots if t in (0, length - 1) or draw(st.booleans())]
    return states, length, np.stack(levels)


def scored_examples(trajectory, items, levels, layer, horizon):
    """Examples with their Monte Carlo scores."""
    pairs = select_pairs(trajectory, layer, LAYERS, horizon)
    rows = make_examples(trajectory, items, levels, layer, C, pairs)
    return rows._replace(score=score_trajectory(monte_carlo(DISCOUNT), trajectory, pairs))


def make_example_fn(horizon, space=jnp.int32):
    """Examples of all layers, with actions 10 t + 1, and contexts that name index t as t + 100."""

    @jax.jit
    def make_all_examples(states, length, levels):
        actions = 10 * jnp.arange(T, dtype=jnp.int32) + 1
        layers = range(LAYERS)
        context_items = jnp.arange(T) + 100
        with_actions = scored_examples(Trajectories(states, length, actions), context_items, levels, 0, horizon)
        return with_actions, [
            scored_examples(Trajectories(states, length), context_items, levels, layer, horizon) for layer in layers
        ]

    return make_all_examples


def expected_examples(states, length, levels, layer, horizon):
    """{(t, j): (index of the value on the trajectory, indices in the context)} of all examples with mask 1."""
    own_pivots = np.flatnonzero(levels[layer]).tolist()
    examples = {}
    for t in range(length):
        for j in range(t + 1, min(length, t + horizon + 1)):
            if states[t] == states[j]:
                continue  # the goal equals the state
            if layer + 1 < len(levels):
                above = np.flatnonzero(levels[layer + 1]).tolist()
                before_next_pivot = j <= min(p for p in above if p > t)
                earlier = [p for p in above if p < j]
                toward_pivot = j in above and t >= (earlier[-2] if len(earlier) > 1 else 0)
                if not (before_next_pivot or toward_pivot):
                    continue
            value = min(min(p for p in own_pivots if p > t), j)  # a sub-goal never lengthens a trajectory
            context = [p for p in own_pivots if p <= t] if t in own_pivots else list(range(t + 1))
            max_length = 1 + (t + j) % C  # contexts of every length are trained in turn
            examples[t, j] = value, context[-max_length:]
    return examples


examples_without_horizon, examples_within_horizon = make_example_fn(None), make_example_fn(HORIZON)


@pytest.mark.parametrize(
    ("make_all_examples", "horizon"),
    [(examples_without_horizon, T), (examples_within_horizon, HORIZON)],
    ids=["all", "near"],
)
@given(trajectory_and_levels=trajectories())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_examples_of_each_layer_match_plain_python(make_all_examples, horizon, trajectory_and_levels):
    states, length, levels = trajectory_and_levels
    with_actions, by_layer = jax.device_get(make_all_examples(states, length, levels))
    ts, js = make_goal_pairs(T, horizon)
    for layer, rows in enumerate(by_layer):
        expected = expected_examples(states, length, levels, layer, horizon)
        if layer == 0:  # with actions the pairs are the same, plus steps that stay in place
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
            assert rows.context.items[row, C - len(context) :].tolist() == [index + 100 for index in context]


@pytest.mark.parametrize("length", [0, 1, 2, 5, T])
def test_top_layer_uses_every_pair_of_a_path_without_repetition(length):
    levels = np.stack([np.arange(T) < length] * LAYERS)
    _, by_layer = examples_without_horizon(np.arange(T, dtype=np.int32), length, levels)
    assert int(jnp.sum(by_layer[-1].mask)) == length * (length - 1) // 2


def test_goal_pairs_are_all_pairs_within_the_horizon():
    assert list(zip(*(p.tolist() for p in make_goal_pairs(4, None)), strict=True)) == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3),
    ]  # fmt: skip
    assert list(zip(*(p.tolist() for p in make_goal_pairs(4, 1)), strict=True)) == [(0, 1), (1, 2), (2, 3)]


def test_vector_states_give_the_same_examples_as_indices():
    states = np.array([0, 1, 0, 2, 3, 3, 1], np.int32)
    levels = np.stack([np.arange(T) < 6, np.isin(np.arange(T), [0, 2, 5]), np.isin(np.arange(T), [0, 5])])
    vectors = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)

    def make_all_examples(items):
        return [scored_examples(Trajectories(items, 6), items, levels, layer, None) for layer in range(LAYERS)]

    for index_examples, vector_examples in zip(
        jax.jit(make_all_examples)(states), jax.jit(make_all_examples)(vectors[states]), strict=True
    ):
        np.testing.assert_array_equal(index_examples.mask, vector_examples.mask)
        np.testing.assert_array_equal(vectors[index_examples.target], vector_examples.target)
        np.testing.assert_array_equal(vectors[index_examples.value], vector_examples.value)
        np.testing.assert_array_equal(vectors[index_examples.context.items], vector_examples.context.items)


def test_flatten_examples_merges_the_path_axis():
    batch = flatten_examples({"a": np.arange(12).reshape(2, 3, 2), "b": np.arange(6).reshape(2, 3)})
    assert batch["a"].tolist() == np.arange(12).reshape(6, 2).tolist()
    assert batch["b"].tolist() == list(range(6))


def test_count_value_examples_counts_pairs_and_values():
    for size in (2, 3, 8):
        pairs = size * (size + 1) // 2  # t < j among size + 1 states
        assert count_examples(skip_step(size), 2, size + 1) == pairs + size
        assert count_examples(skip_step(size), 1, 2) == 1
