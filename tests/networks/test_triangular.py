"""Unit lower triangular systems against a dense solver in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.networks.triangular import solve_unit_lower


@jax.jit
def solve_and_differentiate(lower, sides, weight):
    def loss(lower, sides):
        solution = solve_unit_lower(lower, sides)
        return jnp.sum(weight * solution), solution

    return jax.grad(loss, (0, 1), has_aux=True)(lower, sides)


@settings(max_examples=10, deadline=None)
@given(size=st.sampled_from([1, 3, 8, 21]), seed=st.integers(0, 2**31 - 1))
def test_solution_and_gradients_are_those_of_a_dense_solver(size, seed):
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.normal(size=(2, size, size)), -1) * 0.5
    sides, weight = rng.normal(size=(2, 2, size, 3))
    inverse = np.linalg.inv(lower + np.eye(size))

    gradients, solution = solve_and_differentiate(*map(np.float32, (lower, sides, weight)))
    sides_gradient = inverse.swapaxes(-1, -2) @ weight
    expected = inverse @ sides
    lower_gradient = -np.tril(sides_gradient @ expected.swapaxes(-1, -2), -1)
    scale = np.abs(inverse).max() ** 2
    np.testing.assert_allclose(solution, expected, atol=1e-5 * scale)
    np.testing.assert_allclose(gradients[1], sides_gradient, atol=1e-5 * scale)
    np.testing.assert_allclose(gradients[0], lower_gradient, atol=1e-4 * scale**2)


@pytest.mark.parametrize("entry", [2.0, -1.0])
def test_large_powers_cancel_nothing(entry):
    """Powers of the matrix reach 1e18; the solution (+-2 x 1, or powers of 2) is exact."""
    lower = np.tril(np.full((64, 64), entry, np.float32), -1)
    expected = np.linalg.solve(np.eye(64) + lower.astype(np.float64), np.ones((64, 1)))
    np.testing.assert_allclose(jax.jit(solve_unit_lower)(lower, np.ones((64, 1), np.float32)), expected, rtol=1e-6)
