"""Codebooks: vectors are encoded as tokens, and tokens decoded to centroids."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.text.clusters import Codebook, decode, encode, fit_codebook
from thinking.text.embedders import normalize


def sample_unit_vectors(rows: int, dims: int, seed: int = 0) -> np.ndarray:
    return normalize(np.random.default_rng(seed).standard_normal((rows, dims)).astype(np.float32))


def compute_scatter(vectors: np.ndarray, tokens: tuple[int, ...]) -> float:
    """The sum of squared distances to the cluster means, the objective of k-means."""
    clusters = [vectors[np.equal(tokens, token)] for token in set(tokens)]
    return sum(float(((cluster - cluster.mean(axis=0)) ** 2).sum()) for cluster in clusters)


def test_clusters_have_the_minimal_scatter():
    vectors = normalize(np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 2]] + 0.3 * sample_unit_vectors(7, 3))
    best_tokens = min(itertools.product(range(3), repeat=7), key=lambda tokens: compute_scatter(vectors, tokens))
    actual_tokens = encode(fit_codebook(vectors, 3, seed=0), vectors)
    same_cluster = np.equal.outer(actual_tokens, actual_tokens)
    assert (same_cluster == np.equal.outer(best_tokens, best_tokens)).all()  # up to a permutation of the clusters


def test_token_is_the_nearest_centroid_and_decodes_to_it(monkeypatch):
    monkeypatch.setattr("thinking.text.clusters.MAX_PRODUCTS", 20)  # several batches
    vectors = sample_unit_vectors(23, 4)
    codebook = fit_codebook(vectors, 5, seed=1)
    tokens = encode(codebook, vectors)
    assert tokens.dtype == np.int32
    for vector, token, reconstruction in zip(vectors, tokens, decode(codebook, tokens), strict=True):
        distances = [np.linalg.norm(vector - centroid) for centroid in codebook.centroids]
        assert token == np.argmin(distances)
        assert (reconstruction == codebook.centroids[token]).all()


@settings(max_examples=20, deadline=None)
@given(num_distinct=st.integers(1, 8), num_copies=st.integers(1, 3), seed=st.integers(0, 9))
def test_one_cluster_per_distinct_vector_is_lossless(num_distinct, num_copies, seed):
    vectors = np.tile(sample_unit_vectors(num_distinct, 6, seed), (num_copies, 1))
    codebook = fit_codebook(vectors, num_distinct, seed)
    np.testing.assert_allclose(decode(codebook, encode(codebook, vectors)), vectors, atol=1e-6)
    with pytest.raises(ValueError, match=f"allowed is 1 to {num_distinct}"):
        fit_codebook(vectors, num_distinct + 1, seed)


def test_fit_codebook_is_deterministic_with_unit_centroids():
    vectors = sample_unit_vectors(50, 8)
    codebook = fit_codebook(vectors, 7, seed=3)
    assert codebook.centroids.dtype == np.float32
    np.testing.assert_array_equal(codebook.centroids, fit_codebook(vectors, 7, seed=3).centroids)
    np.testing.assert_allclose(np.linalg.norm(codebook.centroids, axis=1), 1, atol=1e-6)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="0 clusters of 4 different vectors; allowed is 1 to 4"):
        fit_codebook(sample_unit_vectors(4, 3), 0, seed=0)
    with pytest.raises(ValueError, match="0 different vectors; give vectors"):
        fit_codebook(np.zeros((0, 3)), 1, seed=0)
    codebook = Codebook(sample_unit_vectors(4, 3))
    for token in (-1, 4):
        with pytest.raises(ValueError, match=f"token {token}: allowed is 0 to 3"):
            decode(codebook, np.array([0, token]))
