"""Statistics under a mask, against NumPy's float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.learning.statistics import (
    Moments,
    init_moments,
    masked_mean,
    standard_deviation,
    standardize,
    update_moments,
)

compute_scores = jax.jit(standardize, static_argnames="axis")
compute_std = jax.jit(standard_deviation, static_argnames="axis")
compute_mean = jax.jit(masked_mean, static_argnames=("axis", "keepdims"))
update = jax.jit(update_moments)


@pytest.mark.parametrize("value", [0.7, -0.7, 0.1, 1e-3, 1234.567, 0.0])
@pytest.mark.parametrize("count", [1, 3, 10, 4099])
def test_standard_deviation_of_equal_numbers_is_zero(value, count):
    x, mask = np.full(count, value, np.float32), np.ones(count, np.float32)
    np.testing.assert_array_equal(compute_scores(x, mask), 0)
    assert float(compute_std(x, mask)) == 0


def test_standard_deviation_of_rounding_errors_is_zero():
    x = np.float32(0.7) * np.ones(10, np.float32)
    x[::2] = np.nextafter(x[::2], np.float32(1))
    np.testing.assert_array_equal(compute_scores(x, np.ones_like(x)), 0)
    # One operation on large numbers is exact to a part in 2 ** 24 of them.
    large = np.float32([100.0, 100.00001, 99.99999, 100.0])
    np.testing.assert_array_equal(compute_scores(large, np.ones(4, np.float32)), 0)


@pytest.mark.parametrize(("center", "spread"), [(0, 1), (0, 1e-12), (1e4, 1), (-1e6, 50), (1000, 0.1)])
def test_standard_scores_match_numpy(center, spread):
    rng = np.random.default_rng(0)
    x = rng.normal(center, spread, 500).astype(np.float32)
    mask = rng.choice([0, 0.25, 1, 3], 500).astype(np.float32)
    exact, weight = x.astype(np.float64), mask.astype(np.float64)
    average = np.average(exact, weights=weight)
    std = np.sqrt(np.average((exact - average) ** 2, weights=weight))
    np.testing.assert_allclose(compute_scores(x, mask), np.where(mask > 0, (exact - average) / std, 0), atol=2e-3)
    assert float(compute_std(x, mask)) == pytest.approx(std, rel=1e-3)


def test_statistics_along_an_axis():
    x = np.float32([[1, 2, 3, 9], [5, 5, 5, 5], [0, 1, 7, 7]])
    mask = np.float32([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
    edge = np.sqrt(1.5)
    np.testing.assert_allclose(
        compute_scores(x, mask, axis=1), [[-edge, 0, edge, 0], [0] * 4, [-1, 1, 0, 0]], atol=1e-6
    )
    np.testing.assert_allclose(compute_std(x, mask, axis=1), [np.sqrt(2 / 3), 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(compute_mean(x, mask, axis=1), [2, 5, 0.5])
    assert compute_mean(x, mask, axis=0, keepdims=True).shape == (1, 4)


def test_masked_mean_is_weighted_and_zero_without_weight():
    assert float(compute_mean(np.float32([1, 5]), np.float32([0.25, 0]))) == 1
    assert float(compute_mean(np.float32([2, 5]), np.float32([1e-30, 2e-30]))) == pytest.approx(4)
    assert float(compute_mean(np.ones(3, np.float32), np.zeros(3, np.float32))) == 0
    np.testing.assert_array_equal(compute_scores(np.float32([1, 2]), np.zeros(2, np.float32)), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("statistic", [masked_mean, standard_deviation, standardize])
def test_masked_entries_do_not_change_value_or_gradient(statistic, bad):
    x, mask = np.float32([1, 2, 4, 0]), np.float32([1, 0.5, 1, 0])
    corrupted = np.where(mask > 0, x, np.float32(bad))
    compute = jax.jit(jax.value_and_grad(lambda x: jnp.sum(statistic(x, mask) * 2)))
    for clean, other in zip(compute(x), compute(corrupted), strict=True):
        assert np.isfinite(clean).all()
        np.testing.assert_array_equal(clean, other)


def test_moments_of_parts_match_the_whole():
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(300, 3)) * [1, 0.01, 50] + [1e4, 0.0, -1e5]).astype(np.float32)
    mask = rng.choice([0, 0.5, 1], 300).astype(np.float32)
    x[mask == 0] = np.nan
    moments = init_moments(3)
    for first, last in ((0, 7), (7, 7), (7, 8), (8, 200), (200, 300)):
        moments = update(moments, x[first:last], mask[first:last]) if first < last else moments
    is_valid = mask > 0
    exact, weights = x[is_valid].astype(np.float64), mask[is_valid]
    average = np.average(exact, axis=0, weights=weights)
    assert float(moments.count) == weights.sum()
    np.testing.assert_allclose(moments.mean, average, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(
        moments.std, np.sqrt(np.average((exact - average) ** 2, axis=0, weights=weights)), rtol=2e-3
    )


def test_moments_are_means_for_any_total_weight():
    moments = update(init_moments(1), np.float32([[1], [3], [9]]), np.float32([0.25, 0.25, 0]))
    assert (float(moments.count), float(moments.mean[0]), float(moments.std[0])) == (0.5, 2, 1)


def test_moments_of_a_constant_vector_have_zero_std():
    moments = init_moments(2)
    for count in (1, 10, 1000):
        moments = update(moments, np.tile(np.float32([-0.7, 1e-3]), (count, 1)), np.ones(count, np.float32))
    np.testing.assert_array_equal(moments.mean, np.float32([-0.7, 1e-3]))
    np.testing.assert_array_equal(moments.std, 0)


def test_masked_vectors_leave_moments_unchanged():
    np.testing.assert_array_equal(init_moments(2).std, 0)
    before = Moments(jnp.float32(3), jnp.float32([1, 2]), jnp.float32([3, 12]))
    np.testing.assert_array_equal(before.std, [1, 2])
    after = update(before, np.full((4, 2), np.nan, np.float32), np.zeros(4, np.float32))
    jax.tree.map(np.testing.assert_array_equal, before, after)
