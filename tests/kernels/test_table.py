"""The table kernel, indexed and hashed, against a dictionary."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.cases import assert_identical, make_context, make_transition
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Discrete

hypothesis_settings = functools.partial(settings, deadline=None, derandomize=True, database=None)


def count_bytes(kernel):
    state = jax.eval_shape(kernel.init, jax.random.key(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in state)


@functools.cache
def make_table(**options):
    """An initial state, and jitted `fit` and `infer`."""
    kernel = kernels.table(value=Discrete(100), **options)
    return kernel.init(jax.random.key(0)), jit(kernel.fit), jit(kernel.infer)


def grid(*sizes):
    """Every item with every target: contexts of length 1, and targets."""
    pairs = np.asarray(list(itertools.product(*map(range, sizes))), np.int32)
    return make_context(pairs[:, :-1], np.ones(len(pairs))), jnp.asarray(pairs[:, -1])


# Row by row

BATCH, BATCHES = 8, 2
SMALL = {"input": Discrete(2), "target": Discrete(2), "context_length": 2}
OPTIONS = {"indexed": SMALL, "hashed": {**SMALL, "capacity": 11}}  # of twelve possible queries

digits = st.sampled_from([0, 0, 0, 0, 1, 1, 1, -1, 2])  # the last two are outside the space
row_tuples = st.tuples(
    st.lists(digits, min_size=2, max_size=2),  # items
    st.integers(1, 2),  # length
    digits,  # target
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),  # score
    st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0]),  # mask
)


def insert_rows(entries, rows):
    """Adds rows to a dictionary one by one; the value is the row's index."""
    for row_index, (items, length, target, score, mask) in enumerate(rows):
        query = (*items[2 - length :], target)
        is_valid = all(0 <= digit < 2 for digit in query)
        if is_valid and mask > 0 and score > entries.get(query, (None, -np.inf))[1]:
            entries[query] = (row_index, score)
    return entries


@pytest.mark.parametrize("layout", OPTIONS)
@hypothesis_settings(max_examples=40)
@given(rows=st.lists(row_tuples, min_size=BATCH * BATCHES, max_size=BATCH * BATCHES))
def test_fit_on_a_batch_matches_a_dictionary_filled_row_by_row(layout, rows):
    entries = insert_rows({}, rows)
    if layout == "hashed" and len(entries) > 11:
        return  # entries were evicted, which is tested below
    state, fit, infer = make_table(**OPTIONS[layout])
    items, lengths, targets, scores, masks = (np.asarray(part) for part in zip(*rows, strict=True))
    batch = make_transition(items, lengths, targets, np.arange(len(rows)), scores, masks)
    for part in range(BATCHES):
        state, _ = fit(state, jax.tree.map(lambda leaf, part=part: leaf[part * BATCH : (part + 1) * BATCH], batch))
    queries = list(itertools.product(range(-1, 3), range(-1, 3), [1, 2], range(-1, 3)))
    items, lengths, targets = [row[:2] for row in queries], [row[2] for row in queries], [row[3] for row in queries]
    hypothesis = infer(state, make_context(items, lengths), jnp.asarray(targets))
    for (old, new, length, target), value, score in zip(queries, *map(np.asarray, hypothesis), strict=True):
        expected = entries.get((*[old, new][2 - length :], target))
        assert score == (expected[1] if expected else -np.inf)
        assert expected is None or value == expected[0]


@pytest.mark.parametrize("layout", OPTIONS)
def test_earlier_value_wins_among_equal_scores(layout):
    state, fit, infer = make_table(**OPTIONS[layout])
    items, targets, scores = np.zeros((BATCH, 2), np.int32), np.zeros(BATCH, np.int32), [0, 0.5, 1, 0.5, 1, 1, 0, 1]
    batch = make_transition(items, np.ones(BATCH), targets, np.arange(BATCH), scores)
    state, _ = fit(state, batch)
    assert infer(state, batch.context, batch.target).value[0] == 2
    state, _ = fit(state, batch._replace(value=batch.value + BATCH))
    assert infer(state, batch.context, batch.target).value[0] == 2


def test_num_written_counts_changed_entries():
    state, fit, _ = make_table(**SMALL)
    items, targets = np.zeros((BATCH, 2), np.int32), [0, 0, 0, 1, 1, 1, 5, 5]
    batch = make_transition(items, np.ones(BATCH), targets, np.arange(8), [1, 1, 0, 0, 0, 0, 1, 1])
    state, metrics = fit(state, batch)
    assert metrics["num_written"] == 2
    assert fit(state, batch)[1]["num_written"] == 0


# Sizes


def test_table_of_1024_states_takes_less_than_16_mebibytes():
    states = Discrete(1024)
    assert count_bytes(kernels.table(input=states, value=states, target=states)) < 16 * 2**20


def test_table_is_hashed_if_capacity_is_below_the_number_of_queries():
    spaces = {"input": Discrete(100), "value": Discrete(100), "target": Discrete(10)}
    num_queries = 100 * 10
    assert count_bytes(kernels.table(**spaces, capacity=num_queries)) == 8 * num_queries  # no keys are stored
    assert count_bytes(kernels.table(**spaces, capacity=num_queries - 1)) > 8 * num_queries
    # Older items of a context may also be missing.
    long_options = {**spaces, "context_length": 2}
    assert count_bytes(kernels.table(**long_options, capacity=101 * num_queries)) == 8 * 101 * num_queries
    assert count_bytes(kernels.table(**long_options, capacity=101 * num_queries - 1)) > 8 * 101 * num_queries


def test_memory_of_a_hashed_table_depends_on_its_capacity_alone():
    space = Discrete(2**30)
    kernel = kernels.table(input=space, value=space, target=space, context_length=4, capacity=1024)
    assert count_bytes(kernel) < 2**16
    items, lengths = [[2**30 - 1 - row] * 4 for row in range(4)], np.full(4, 4)
    batch = make_transition(items, lengths, np.full(4, 2**30 - 1), [4, 3, 2, 2**30 - 1], np.full(4, 0.5))
    state, _ = jit(kernel.fit)(kernel.init(jax.random.key(0)), batch)
    hypothesis = jit(kernel.infer)(state, batch.context, batch.target)
    assert np.array_equal(hypothesis.value, batch.value)
    assert np.array_equal(hypothesis.score, batch.score)


# When a hashed table is full

HASHED = {"input": Discrete(40), "target": Discrete(40), "capacity": 256}


@hypothesis_settings(max_examples=40)
@given(
    queries=st.lists(st.integers(0, 8), min_size=24, max_size=24),
    scores=st.permutations([row_index / 24 for row_index in range(24)]),
    capacity=st.sampled_from([1, 3]),
)
def test_full_table_keeps_the_queries_of_the_highest_scores(queries, scores, capacity):
    state, fit, infer = make_table(input=Discrete(3), target=Discrete(3), capacity=capacity)
    items, targets = np.divmod(queries, 3)
    for indices in np.split(np.arange(24), 3):
        rows = make_transition(items[indices, None], np.ones(8), targets[indices], indices, np.asarray(scores)[indices])
        state, _ = fit(state, rows)
    best = {}
    for row_index, (query, score) in enumerate(zip(queries, scores, strict=True)):
        best[query] = max(best.get(query, (-1.0, 0)), (score, row_index))
    expected_entries = dict(sorted(best.items(), key=lambda entry: entry[1], reverse=True)[:capacity])
    hypothesis = infer(state, *grid(3, 3))
    for query, (value, score) in enumerate(zip(*map(np.asarray, hypothesis), strict=True)):
        expected = expected_entries.get(query, (-np.inf, value))
        assert (score, value) == (np.float32(expected[0]), expected[1])


def test_full_table_rejects_entries_of_equal_score():
    state, fit, infer = make_table(input=Discrete(3), target=Discrete(3), capacity=3)
    query_context, target = grid(3, 3)
    state, _ = fit(
        state, make_transition(query_context.items, query_context.length, target, np.arange(9), np.full(9, 0.5))
    )
    assert np.array_equal(infer(state, query_context, target).score > 0, [True] * 3 + [False] * 6)


def test_hash_collisions_never_return_the_value_of_another_query():
    state, fit, infer = make_table(**HASHED)
    query_context, target = grid(40, 40)
    rng, expected_scores, expected_values = np.random.default_rng(0), np.full(1600, -np.inf), np.zeros(1600)
    for step in range(3):
        score = rng.random(1600).astype(np.float32)
        value = (np.arange(1600) + step) % 97
        state, _ = fit(state, make_transition(query_context.items, query_context.length, target, value, score))
        expected_values = np.where(score > expected_scores, value, expected_values)
        expected_scores = np.maximum(expected_scores, score)
    hypothesis = infer(state, query_context, target)
    is_stored = np.asarray(hypothesis.score) > -np.inf
    assert is_stored.sum() == HASHED["capacity"]
    assert np.array_equal(np.asarray(hypothesis.score)[is_stored], expected_scores[is_stored])
    assert np.array_equal(np.asarray(hypothesis.value)[is_stored], expected_values[is_stored])


def test_half_full_table_stores_all_entries():
    state, fit, infer = make_table(**HASHED)
    query_context, target = grid(40, 40)
    value, is_stored = np.arange(1600) % 97, np.arange(1600) < HASHED["capacity"] // 2
    state, _ = fit(
        state, make_transition(query_context.items, query_context.length, target, value, np.full(1600, 0.5), is_stored)
    )
    hypothesis = infer(state, query_context, target)
    assert np.array_equal(hypothesis.score, np.where(is_stored, np.float32(0.5), -np.inf))
    assert np.array_equal(np.asarray(hypothesis.value)[is_stored], value[is_stored])


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": Box(2)}, r"Box\(dims=2\).*Discrete"),
        ({"target": Box(3)}, r"Box\(dims=3\).*Discrete"),
        ({"capacity": 0}, "capacity 0 .*at least 1"),
        ({"context_length": 0}, "context_length 0.*at least 1"),
    ],
)
def test_options_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=message) as error:
        kernels.table(**{"input": Discrete(2), "value": Discrete(2), "target": Discrete(2), **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("build", [lambda: Discrete(0), lambda: Discrete(-3), lambda: Box(0)])
def test_empty_spaces_are_rejected(build):
    with pytest.raises(ValueError, match=r"(Discrete|Box)\(-?\d\).*at least 1"):
        build()


def test_init_does_not_depend_on_the_key():
    kernel = kernels.table(input=Discrete(2), value=Discrete(2), target=Discrete(2))
    assert_identical(kernel.init(jax.random.key(0)), kernel.init(jax.random.key(1)))
