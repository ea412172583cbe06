"""Clusters: vectors become tokens, and tokens the vectors in whose place they stand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.text.clusters import Codebook, decode, encode, fit_codebook
from thinking.text.embedders import normalize


def drawn(rows: int, dims: int, seed: int = 0) -> np.ndarray:
    return normalize(np.random.default_rng(seed).standard_normal((rows, dims)).astype(np.float32))


def scatter(vectors: np.ndarray, tokens: tuple[int, ...]) -> float:
    """The sum of squared distances to the mean of one's cluster, which k-means makes small."""
    parts = [vectors[np.equal(tokens, token)] for token in set(tokens)]
    return sum(float(((part - part.mean(axis=0)) ** 2).sum()) for part in parts)


def test_clusters_are_those_of_the_least_scatter_among_all():
    vectors = normalize(np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 2]] + 0.3 * drawn(7, 3))
    best = min(itertools.product(range(3), repeat=7), key=lambda tokens: scatter(vectors, tokens))
    found = encode(fit_codebook(vectors, 3, seed=0), vectors)
    together = np.equal.outer(found, found)
    assert (together == np.equal.outer(best, best)).all()  # whatever the clusters' numbers are


def test_a_token_is_the_nearest_centroid_and_decodes_to_it(monkeypatch):
    monkeypatch.setattr("thinking.text.clusters.MAX_PRODUCTS", 20)  # several parts
    vectors = drawn(23, 4)
    codebook = fit_codebook(vectors, 5, seed=1)
    tokens = encode(codebook, vectors)
    assert tokens.dtype == np.int32
    for vector, token, stands in zip(vectors, tokens, decode(codebook, tokens), strict=True):
        apart = [np.linalg.norm(vector - centroid) for centroid in codebook.centroids]
        assert token == np.argmin(apart)
        assert (stands == codebook.centroids[token]).all()


@settings(max_examples=20, deadline=None)
@given(different=st.integers(1, 8), times=st.integers(1, 3), seed=st.integers(0, 9))
def test_as_many_clusters_as_different_vectors_lose_nothing(different, times, seed):
    vectors = np.tile(drawn(different, 6, seed), (times, 1))
    codebook = fit_codebook(vectors, different, seed)
    np.testing.assert_allclose(decode(codebook, encode(codebook, vectors)), vectors, atol=1e-6)
    with pytest.raises(ValueError, match=f"allowed is 1 to {different}"):
        fit_codebook(vectors, different + 1, seed)


def test_equal_calls_give_equal_codebooks_and_centroids_have_length_1():
    vectors = drawn(50, 8)
    codebook = fit_codebook(vectors, 7, seed=3)
    assert codebook.centroids.dtype == np.float32
    np.testing.assert_array_equal(codebook.centroids, fit_codebook(vectors, 7, seed=3).centroids)
    np.testing.assert_allclose(np.linalg.norm(codebook.centroids, axis=1), 1, atol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="0 clusters of 4 different vectors; allowed is 1 to 4"):
        fit_codebook(drawn(4, 3), 0, seed=0)
    with pytest.raises(ValueError, match="0 different vectors; give vectors"):
        fit_codebook(np.zeros((0, 3)), 1, seed=0)
    codebook = Codebook(drawn(4, 3))
    for stray in (-1, 4):
        with pytest.raises(ValueError, match=f"token {stray}: allowed is 0 to 3"):
            decode(codebook, np.array([0, stray]))
