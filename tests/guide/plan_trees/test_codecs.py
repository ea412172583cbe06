"""Codecs: what a layer sees of a vector, and a mark that no vector is taken for."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.plan_trees.codecs import VARIANCE_FLOOR, token_codec, whitening, whitening_codec
from thinking.kernels import Box, Discrete
from thinking.text.embedders import normalize

ROWS, DIMS = 8, 4  # all of one shape, so that JAX compiles little
SEEDS = st.integers(0, 2**31 - 1)


def random_vectors(seed, different=ROWS):
    """[ROWS, DIMS] of which so many differ; they vary much in some directions, and little in others."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(different, DIMS)) * np.geomspace(1, 0.1, DIMS) + rng.normal(size=DIMS)
    return vectors[np.arange(ROWS) % different].astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, different=st.integers(2, ROWS), asked=st.integers(1, DIMS + 1))
def test_codes_do_not_vary_together_and_vary_by_1_in_the_mean(seed, different, asked):
    vectors = random_vectors(seed, different)
    transformation = whitening(vectors, asked)
    count = min(asked, DIMS, different - 1)
    assert transformation.forward.shape == (DIMS, count)
    codes = np.asarray(whitening_codec(transformation).encode(vectors), np.float64)[:, :-1]
    covariance = codes.T @ codes / ROWS
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    np.testing.assert_allclose(np.trace(covariance), count, rtol=1e-3)
    # The floor keeps directions small in which vectors hardly vary.
    spread = np.linalg.eigvalsh(np.cov(vectors.T.astype(np.float64), bias=True))[::-1]
    share = (spread / (spread + VARIANCE_FLOOR * spread[0]))[:count]
    np.testing.assert_allclose(np.diag(covariance), share * count / share.sum(), rtol=0.02, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, different=st.integers(2, ROWS))
def test_with_as_many_dimensions_as_vectors_have_nothing_is_lost(seed, different):
    vectors = random_vectors(seed, different)
    codec = whitening_codec(whitening(vectors, DIMS))
    np.testing.assert_allclose(codec.decode(codec.encode(vectors)), vectors, atol=1e-4)


def test_with_fewer_dimensions_the_nearest_point_of_the_largest_components_is_left():
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
    for vector, code, meaning in zip(vectors, codes, np.asarray(codec.decode(codes)), strict=True):
        cosines = [vector @ centroid / np.linalg.norm(vector) for centroid in centroids]
        assert cosines[code] >= max(cosines) - 1e-6
        np.testing.assert_array_equal(meaning, centroids[code])


@pytest.mark.parametrize("kind", ["whitened", "tokens"])
def test_the_mark_is_a_mark_and_no_vector_is_one(kind):
    vectors = normalize(random_vectors(0))
    codec = whitening_codec(whitening(vectors, 3)) if kind == "whitened" else token_codec(vectors[:3])
    assert codec.space == (Box(4) if kind == "whitened" else Discrete(4))
    assert codec.mark.shape == codec.space.shape
    assert codec.mark.dtype == codec.space.dtype
    assert bool(codec.is_mark(codec.mark))
    far = jnp.asarray([*vectors, *(1000 * vectors)])
    assert not codec.is_mark(codec.encode(far)).any()
    # A mark that is taken for a target says the least: the middle of what is known.
    is_known = vectors if kind == "whitened" else vectors[:3]
    np.testing.assert_allclose(codec.decode(codec.mark[None])[0], is_known.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "dims"), [(np.ones((1, 3)), 2), (np.ones((4, 3)), 2), (random_vectors(0), 0), (random_vectors(0), -1)]
)
def test_vectors_that_do_not_differ_and_no_dimensions_are_refused(vectors, dims):
    with pytest.raises(ValueError, match=f"{len(vectors)} vectors to {dims} dimensions: give two that differ, and 1"):
        whitening(vectors, dims)
