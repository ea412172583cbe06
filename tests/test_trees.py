"""Helpers for PyTrees."""

import jax.numpy as jnp

from thinking.trees import select_rows


def test_whole_rows_of_every_leaf_are_selected():
    condition = jnp.array([True, False])
    matrix, vector = select_rows(condition, (jnp.ones((2, 3)), jnp.ones(2)), (jnp.zeros((2, 3)), jnp.zeros(2)))
    assert matrix.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert vector.tolist() == [1, 0]


def test_a_condition_may_have_several_axes():
    selected = select_rows(jnp.array([[True, False]]), jnp.ones((1, 2, 2)), jnp.zeros((1, 2, 2)))
    assert selected.tolist() == [[[1, 1], [0, 0]]]
