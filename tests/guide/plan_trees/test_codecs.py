"""Codecs: the code that a layer reads for a vector, and the separator, which is no vector's code."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.plan_trees.codecs import VARIANCE_FLOOR, token_codec, whitening, whitening_codec
from thinking.kernels import Box, Discrete
from thinking.text.embedders import normalize

ROWS, DIMS = 8, 4  # one shape for all, so that JAX compiles little
SEEDS = st.integers(0, 2**31 - 1)


def random_vectors(seed, num_distinct=ROWS):
    """[ROWS, DIMS] with `num_distinct` different rows; their variance differs between directions."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num_distinct, DIMS)) * np.geomspace(1, 0.1, DIMS) + rng.normal(size=DIMS)
    return vectors[np.arange(ROWS) % num_distinct].astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, num_distinct=st.integers(2, ROWS), max_dims=st.integers(1, DIMS + 1))
def test_whitened_codes_are_uncorrelated_with_mean_variance_1(seed, num_distinct, max_dims):
    vectors = random_vectors(seed, num_distinct)
    transformation = whitening(vectors, max_dims)
    num_dims = min(max_dims, DIMS, num_distinct - 1)
    assert transformation.forward.shape == (DIMS, num_dims)
    codes = np.asarray(whitening_codec(transformation).encode(vectors), np.float64)[:, :-1]
    covariance = codes.T @ codes / ROWS
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    np.testing.assert_allclose(np.trace(covariance), num_dims, rtol=1e-3)
    # The variance floor keeps directions of low variance small.
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T.astype(np.float64), bias=True))[::-1]
    shrinkage = (eigenvalues / (eigenvalues + VARIANCE_FLOOR * eigenvalues[0]))[:num_dims]
    np.testing.assert_allclose(np.diag(covariance), shrinkage * num_dims / shrinkage.sum(), rtol=0.02, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, num_distinct=st.integers(2, ROWS))
def test_whitening_with_all_dimensions_is_lossless(seed, num_distinct):
    vectors = random_vectors(seed, num_distinct)
    codec = whitening_codec(whitening(vectors, DIMS))
    np.testing.assert_allclose(codec.decode(codec.encode(vectors)), vectors, atol=1e-4)


def test_whitening_projects_onto_the_largest_components():
    vectors = np.array([[0, 5, 0], [2, 5, 1], [4, 5, 0], [2, 5, -1]], np.float32)
    codec = whitening_codec(whitening(vectors, 1))
    np.testing.assert_allclose(
        codec.decode(codec.encode(vectors)), [[0, 5, 0], [2, 5, 0], [4, 5, 0], [2, 5, 0]], atol=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 3))
def test_a_token_is_the_nearest_centroid_and_decodes_to_it(seed, count):
    vectors, centroids = random_vectors(seed), normalize(random_vectors(seed + 1)[:count])
    codec = token_codec(centroids)
    codes = np.asarray(codec.encode(vectors))
    for vector, code, decoded in zip(vectors, codes, np.asarray(codec.decode(codes)), strict=True):
        cosines = [vector @ centroid / np.linalg.norm(vector) for centroid in centroids]
        assert cosines[code] >= max(cosines) - 1e-6
        np.testing.assert_array_equal(decoded, centroids[code])


@pytest.mark.parametrize("kind", ["whitened", "tokens"])
def test_is_separator_recognises_the_separator_alone(kind):
    vectors = normalize(random_vectors(0))
    codec = whitening_codec(whitening(vectors, 3)) if kind == "whitened" else token_codec(vectors[:3])
    assert codec.space == (Box(4) if kind == "whitened" else Discrete(4))
    assert codec.separator.shape == codec.space.shape
    assert codec.separator.dtype == codec.space.dtype
    assert bool(codec.is_separator(codec.separator))
    all_vectors = jnp.asarray([*vectors, *(1000 * vectors)])
    assert not codec.is_separator(codec.encode(all_vectors)).any()
    # The separator decodes to the mean of the vectors.
    training_vectors = vectors if kind == "whitened" else vectors[:3]
    np.testing.assert_allclose(codec.decode(codec.separator[None])[0], training_vectors.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "dims"), [(np.ones((1, 3)), 2), (np.ones((4, 3)), 2), (random_vectors(0), 0), (random_vectors(0), -1)]
)
def test_equal_vectors_and_dims_below_1_are_rejected(vectors, dims):
    with pytest.raises(ValueError, match=f"{len(vectors)} vectors to {dims} dimensions: give two that differ, and 1"):
        whitening(vectors, dims)
