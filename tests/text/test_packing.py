"""Packing of sequences, and shuffled batches of rows."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.text.packing import pack, sample_row_indices

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
LENGTH = 9
sequences = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=LENGTH), min_size=1, max_size=30)


def unpack(packed):
    """The tokens and weights of every segment, row by row."""
    for tokens, segments, weights in zip(*packed, strict=True):
        for segment in range(1, segments.max() + 1):
            yield tuple(tokens[segments == segment].tolist()), tuple(weights[segments == segment].tolist())


@given(sequences)
@QUICK
def test_every_sequence_is_packed_once_with_its_weights(token_lists):
    weights = [[0.5 * token for token in sequence] for sequence in token_lists]
    packed = pack(token_lists, LENGTH, weights)
    expected = zip(map(tuple, token_lists), map(tuple, weights), strict=True)
    assert sorted(unpack(packed)) == sorted(expected)
    for leaf, dtype in zip(packed, ("int32", "int32", "float32"), strict=True):
        assert (leaf.dtype, leaf.shape[1]) == (dtype, LENGTH)
        assert not leaf[packed.segments == 0].any()
    # Segments are numbered from 1 without gaps, and padding comes last.
    is_filled = packed.segments > 0
    assert (packed.segments[:, 0] == 1).all()
    assert (np.diff(is_filled.astype(int), axis=1) <= 0).all()
    assert np.isin(np.diff(packed.segments, axis=1)[is_filled[:, 1:]], (0, 1)).all()


@given(sequences)
@QUICK
def test_rows_equal_first_fit_decreasing_reference(token_lists):
    rows = []
    for sequence in sorted(token_lists, key=len, reverse=True):
        fitting = [row for row in rows if len(row) + len(sequence) <= LENGTH]
        if fitting:
            fitting[0].extend(sequence)
        else:
            rows.append(list(sequence))
    packed = pack(token_lists, LENGTH)
    assert [row[segments > 0].tolist() for row, segments in zip(*packed[:2], strict=True)] == rows
    assert (packed.weights == (packed.segments > 0)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 4), "no sequences; give at least one"),
        (([[1], [], [2]], 4), "sequence 1 is empty; leave it out"),
        (([[1], [1, 2, 3, 4, 5]], 4), "sequence 1 has 5 tokens, more than the 4 of a row; cut it, or give longer rows"),
        (([[1], [2]], 4, [[1.0]]), "weights of 1 sequences for 2"),
        (([[1], [2, 3]], 4, [[1.0], [1.0]]), "sequence 1 has 2 tokens but 1 weights"),
    ],
)
def test_invalid_sequences_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        pack(*arguments)


ROWS, BATCH = 7, 3
sample_row_indices_of_steps = jit(
    lambda key, steps: jax.vmap(lambda step: sample_row_indices(key, step, ROWS, BATCH))(steps)
)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31 // ROWS - 1))
@QUICK
def test_every_epoch_has_each_row_once(seed, block):
    steps = block * ROWS + jnp.arange(ROWS, dtype=jnp.int32)  # a whole number of epochs
    rows = np.asarray(sample_row_indices_of_steps(jax.random.key(seed), steps))
    assert rows.dtype == np.int32
    for order in rows.reshape(BATCH, ROWS):
        assert sorted(order) == list(range(ROWS))


def test_rows_of_a_step_do_not_depend_on_other_steps():
    key = jax.random.key(3)
    rows = sample_row_indices_of_steps(key, jnp.array([0, 1, 2, 5, 40, 6, 7]))
    np.testing.assert_array_equal(rows[4], sample_row_indices(key, 40, ROWS, BATCH))


def test_all_permutations_are_equally_likely():
    num_keys = 4800
    sample_row_indices_of_keys = jit(lambda all_keys: jax.vmap(lambda key: sample_row_indices(key, 0, 4, 4))(all_keys))
    orders = np.asarray(sample_row_indices_of_keys(jax.random.split(jax.random.key(0), num_keys)))
    counts = [(orders == order).all(axis=1).sum() for order in itertools.permutations(range(4))]
    assert sum(counts) == num_keys
    expected = num_keys / math.factorial(4)
    assert sum((count - expected) ** 2 / expected for count in counts) < 49.7  # chi-square with 23 df: p > 0.001


def test_many_rows_are_shuffled_well_over_epochs():
    num_rows, num_epochs = 1000, 300
    shuffle_epochs = jit(
        lambda key: jax.vmap(lambda step: sample_row_indices(key, step, num_rows, num_rows))(jnp.arange(num_epochs))
    )
    orders = np.asarray(shuffle_epochs(jax.random.key(1)))
    np.testing.assert_array_equal(np.sort(orders), np.broadcast_to(np.arange(num_rows), orders.shape))
    # A random order has one fixed row on average, and one row that follows its neighbour.
    for is_match in (orders == np.arange(num_rows), np.diff(orders) == 1, orders[1:] == orders[:-1]):
        assert is_match.sum(axis=1).mean() == pytest.approx(1, abs=0.25)  # more than 4 standard errors
    half_counts = (orders[:, : num_rows // 2] < num_rows // 2).sum(axis=1)
    assert half_counts.mean() == pytest.approx(num_rows / 4, abs=2)
    assert half_counts.std() == pytest.approx(math.sqrt(num_rows / 16), rel=0.2)  # as of a hypergeometric distribution


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "message"),
    [(4, 5, "batch of 5 is out of range; give 1 to 4"), (4, 0, "batch of 0"), (2**20, 2**11, "reaches")],
)
def test_invalid_batch_size_raises(num_rows, batch_size, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda step: sample_row_indices(jax.random.key(0), step, num_rows, batch_size), 0)
