"""Packing and the rows of a step, against what must hold of any packing and of any shuffle."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.quick import jit

from thinking.text.packing import batch_rows, pack

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
LENGTH = 9
sequences = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=LENGTH), min_size=1, max_size=30)


def unpacked(packed):
    """Every segment's tokens and weights, row by row."""
    for tokens, segments, weights in zip(*packed, strict=True):
        for number in range(1, segments.max() + 1):
            yield tuple(tokens[segments == number].tolist()), tuple(weights[segments == number].tolist())


@given(sequences)
@QUICK
def test_every_sequence_stands_whole_and_once_with_its_weights(given):
    weights = [[0.5 * token for token in sequence] for sequence in given]
    packed = pack(given, LENGTH, weights)
    wanted = zip(map(tuple, given), map(tuple, weights), strict=True)
    assert sorted(unpacked(packed)) == sorted(wanted)
    for leaf, kind in zip(packed, ("int32", "int32", "float32"), strict=True):
        assert (leaf.dtype, leaf.shape[1]) == (kind, LENGTH)
        assert not leaf[packed.segments == 0].any()
    # Numbers go up from 1, one by one, and the padding comes last.
    filled = packed.segments > 0
    assert (packed.segments[:, 0] == 1).all()
    assert (np.diff(filled.astype(int), axis=1) <= 0).all()
    assert np.isin(np.diff(packed.segments, axis=1)[filled[:, 1:]], (0, 1)).all()


@given(sequences)
@QUICK
def test_rows_are_those_of_first_fit_decreasing(given):
    rows = []
    for sequence in sorted(given, key=len, reverse=True):
        fitting = [row for row in rows if len(row) + len(sequence) <= LENGTH]
        if fitting:
            fitting[0].extend(sequence)
        else:
            rows.append(list(sequence))
    packed = pack(given, LENGTH)
    assert [row[segments > 0].tolist() for row, segments in zip(*packed[:2], strict=True)] == rows
    assert (packed.weights == (packed.segments > 0)).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (([], 4), "no sequences; give at least one"),
        (([[1], [], [2]], 4), "sequence 1 is empty; leave it out"),
        (([[1], [1, 2, 3, 4, 5]], 4), "sequence 1 has 5 tokens, more than the 4 of a row; cut it, or give longer rows"),
        (([[1], [2]], 4, [[1.0]]), "weights of 1 sequences for 2"),
        (([[1], [2, 3]], 4, [[1.0], [1.0]]), "sequence 1 has 2 tokens but 1 weights"),
    ],
)
def test_what_cannot_be_packed_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        pack(*wrong)


ROWS, BATCH = 7, 3
seven = jit(lambda key, steps: jax.vmap(lambda step: batch_rows(key, step, ROWS, BATCH))(steps))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31 // ROWS - 1))
@QUICK
def test_every_epoch_holds_each_row_once_and_no_place_is_lost(seed, turn):
    steps = turn * ROWS + jnp.arange(ROWS, dtype=jnp.int32)  # so many steps are whole epochs
    drawn = np.asarray(seven(jax.random.key(seed), steps))
    assert drawn.dtype == np.int32
    for order in drawn.reshape(BATCH, ROWS):
        assert sorted(order) == list(range(ROWS))


def test_a_step_has_the_same_rows_alone_as_among_others():
    key = jax.random.key(3)
    drawn = seven(key, jnp.array([0, 1, 2, 5, 40, 6, 7]))
    np.testing.assert_array_equal(drawn[4], batch_rows(key, 40, ROWS, BATCH))


def test_all_orders_of_a_few_rows_are_as_likely():
    keys = 4800
    all_of = jit(lambda keys: jax.vmap(lambda key: batch_rows(key, 0, 4, 4))(keys))
    drawn = np.asarray(all_of(jax.random.split(jax.random.key(0), keys)))
    counts = [(drawn == order).all(axis=1).sum() for order in itertools.permutations(range(4))]
    assert sum(counts) == keys
    expected = keys / math.factorial(4)
    assert sum((count - expected) ** 2 / expected for count in counts) < 49.7  # chi-square, 23 free: p > 0.001


def test_many_rows_are_shuffled_well_over_epochs():
    rows, epochs = 1000, 300
    orders = jit(lambda key: jax.vmap(lambda step: batch_rows(key, step, rows, rows))(jnp.arange(epochs)))
    drawn = np.asarray(orders(jax.random.key(1)))
    np.testing.assert_array_equal(np.sort(drawn), np.broadcast_to(np.arange(rows), drawn.shape))
    # In a random order one row on average stands where it stood, and one on average follows its neighbour.
    for same in (drawn == np.arange(rows), np.diff(drawn) == 1, drawn[1:] == drawn[:-1]):
        assert same.sum(axis=1).mean() == pytest.approx(1, abs=0.25)  # more than 4 standard errors
    half = (drawn[:, : rows // 2] < rows // 2).sum(axis=1)
    assert half.mean() == pytest.approx(rows / 4, abs=2)
    assert half.std() == pytest.approx(math.sqrt(rows / 16), rel=0.2)  # as of a hypergeometric distribution


@pytest.mark.parametrize(
    ("rows", "batch", "message"),
    [(4, 5, "batch of 5 is out of range; give 1 to 4"), (4, 0, "batch of 0"), (2**20, 2**11, "reaches")],
)
def test_a_batch_that_rows_cannot_fill_is_refused(rows, batch, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda step: batch_rows(jax.random.key(0), step, rows, batch), 0)
