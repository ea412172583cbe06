"""Vector quantisation by k-means: a vector's token is the index of its nearest centroid.

Axes: N vectors, D dimensions, K clusters.
"""

import warnings
from typing import NamedTuple

import numpy as np

from thinking.batching import cut_rows
from thinking.text.embedders import normalize

MAX_ITERATIONS = 30
"""Maximum iterations of Lloyd's algorithm."""

MAX_PRODUCTS = 2**24
"""Inner products per block while encoding: 64 MiB."""


class Codebook(NamedTuple):
    """Centroids of the tokens.

    Attributes:
        centroids: [K, D] float32, unit vectors.
    """

    centroids: np.ndarray


def fit_codebook(vectors: np.ndarray, num_clusters: int, seed: int) -> Codebook:
    """K-means (Lloyd 1982) with k-means++ initialisation (Arthur & Vassilvitskii 2007), deterministic in the seed.

    Args:
        vectors: [N, D] unit vectors.
        num_clusters: K.
        seed: of the initial centroids.

    Raises:
        ValueError: for fewer distinct vectors than clusters, no cluster, or a cluster whose vectors sum to 0.
    """
    from scipy.cluster.vq import kmeans2

    vectors = np.asarray(vectors, np.float32)
    distinct, counts = np.unique(vectors, axis=0, return_counts=True)
    if not 1 <= num_clusters <= len(distinct):
        allowed = f"allowed is 1 to {len(distinct)}" if len(distinct) else "give vectors"
        raise ValueError(f"fit_codebook: {num_clusters} clusters of {len(distinct)} different vectors; {allowed}")
    initial = _init_centroids(distinct, counts, num_clusters, np.random.default_rng(seed))
    with warnings.catch_warnings():
        # An empty cluster keeps its centroid; other vectors may still be encoded with it.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centroids, _ = kmeans2(vectors, initial, iter=MAX_ITERATIONS, minit="matrix")
    return Codebook(normalize(centroids))


def _init_centroids(
    distinct: np.ndarray, counts: np.ndarray, num_clusters: int, rng: np.random.Generator
) -> np.ndarray:
    """[K, D] initial centroids, sampled by squared distance to the nearest one so far.

    SciPy's `minit="++"` recomputes all distances for each: minutes for 256 clusters of 20,000 sentences.
    """
    chosen = np.zeros(num_clusters, np.int64)
    distances = np.full(len(distinct), 2.0)
    for cluster in range(num_clusters):
        probabilities = counts * distances
        chosen[cluster] = rng.choice(len(distinct), p=probabilities / probabilities.sum())
        # Squared distances of unit vectors. Rounding must not make them 0, except of a vector to itself.
        distances = np.minimum(distances, np.maximum(2 - 2 * (distinct @ distinct[chosen[cluster]]), 1e-9))
        distances[chosen[cluster]] = 0
    return distinct[chosen]


def encode(codebook: Codebook, vectors: np.ndarray) -> np.ndarray:
    """[N] int32, the index of the centroid nearest to each vector [N, D]; the first of equals."""
    num_clusters = len(codebook.centroids)
    tokens = np.zeros(len(vectors), np.int32)
    part_size = max(MAX_PRODUCTS // num_clusters, 1)
    for part_vectors, part_tokens in zip(cut_rows(vectors, part_size), cut_rows(tokens, part_size), strict=True):
        part_tokens[:] = np.argmax(part_vectors @ codebook.centroids.T, axis=1)
    return tokens


def decode(codebook: Codebook, tokens: np.ndarray) -> np.ndarray:
    """[N, D] float32, the centroids of tokens [N]; raises ValueError for a token out of range."""
    tokens, num_clusters = np.asarray(tokens), len(codebook.centroids)
    is_invalid = (tokens < 0) | (tokens >= num_clusters)
    if is_invalid.any():
        raise ValueError(
            f"decode: token {tokens[is_invalid][0]}: allowed is 0 to {num_clusters - 1}, the codebook's clusters"
        )
    return codebook.centroids[tokens]
