"""Examinations: every question is answered once, whatever the batches."""

import jax
import numpy as np
import pytest

from thinking.batching import by_subject, in_batches


@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_batches_change_nothing(batch):
    rows = {"x": np.arange(7.0), "y": np.arange(14).reshape(7, 2)}
    found = in_batches(jax.jit(lambda part: (part["x"] * 2, part["y"].sum(axis=1))), rows, batch)
    np.testing.assert_array_equal(found[0], rows["x"] * 2)
    np.testing.assert_array_equal(found[1], rows["y"].sum(axis=1))


def test_marks_are_counted_by_subject():
    figures = {"tokens": np.array([4, 2, 6, 8]), "depth": np.array([1, 3, 1, 1])}
    rows = by_subject(["add", "divide", "add", "add"], np.array([1, 0, 1, 0]), **figures)
    assert [row["subject"] for row in rows] == ["add", "divide", "all"]
    assert [row["problems"] for row in rows] == [3, 1, 4]
    assert [row["exact_percent"] for row in rows] == pytest.approx([200 / 3, 0, 50])
    assert [row["tokens_mean"] for row in rows] == [6, 2, 5]
    assert [row["depth_mean"] for row in rows] == [1, 3, 1.5]
