"""Rows are cut into parts or batches without loss, in order, for any size."""

import jax
import numpy as np
import pytest

from thinking.batching import apply_in_batches, batch_indices, cut_rows


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_cut_rows_yields_every_row_once_in_order(size):
    assert [row for part in cut_rows("abcdefg", size) for row in part] == list("abcdefg")
    assert [len(part) for part in cut_rows(range(7), size)] == [size] * (7 // size) + [7 % size] * (7 % size > 0)
    rows = np.zeros((7, 2))
    for index, part in enumerate(cut_rows(rows, size)):
        part += index  # parts of an array are views of it
    np.testing.assert_array_equal(rows, np.repeat(np.arange(7) // size, 2).reshape(7, 2))
    assert not list(cut_rows([], size))


def test_last_batch_is_filled_with_rows_from_the_front():
    np.testing.assert_array_equal(batch_indices(5, 3), [[0, 1, 2], [3, 4, 0]])
    np.testing.assert_array_equal(batch_indices(4, 2), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(batch_indices(2, 5), [[0, 1, 0, 1, 0]])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_apply_in_batches_equals_one_call(batch_size):
    rows, shapes = {"x": np.arange(7.0), "y": np.arange(14).reshape(7, 2)}, []

    def function(part):
        shapes.append(part["y"].shape)
        return part["x"] * 2, part["y"].sum(axis=1)

    actual = apply_in_batches(jax.jit(function), rows, batch_size)
    np.testing.assert_array_equal(actual[0], rows["x"] * 2)
    np.testing.assert_array_equal(actual[1], rows["y"].sum(axis=1))
    assert shapes == [(batch_size, 2)]  # traced once
