"""From vectors to tokens and back: a vector's token is the number of the nearest of K directions (k-means).

Axes: N vectors, D dimensions, K clusters.
"""

import warnings
from typing import NamedTuple

import numpy as np

from thinking.batching import cut_rows
from thinking.text.embedders import normalize

MAX_ITERATIONS = 30
"""Of Lloyd's algorithm, at most."""

MAX_PRODUCTS = 2**24
"""Products held at once while vectors are encoded, 64 MiB of them."""


class Codebook(NamedTuple):
    """What tokens stand for.

    Attributes:
        centroids: [K, D] float32, each of length 1.
    """

    centroids: np.ndarray


def fit_codebook(vectors: np.ndarray, num_clusters: int, seed: int) -> Codebook:
    """K-means (Lloyd 1982) from vectors far apart (k-means++: Arthur & Vassilvitskii 2007); the seed decides all.

    Args:
        vectors: [N, D], each of length 1, as embedders make them.
        num_clusters: K.
        seed: of the draw of the vectors that clusters start from.

    Raises:
        ValueError: if there are fewer different vectors than clusters, or no cluster is asked for, or a cluster's
            vectors cancel out.
    """
    from scipy.cluster.vq import kmeans2

    vectors = np.asarray(vectors, np.float32)
    different, times = np.unique(vectors, axis=0, return_counts=True)
    if not 1 <= num_clusters <= len(different):
        allowed = f"allowed is 1 to {len(different)}" if len(different) else "give vectors"
        raise ValueError(f"fit: {num_clusters} clusters of {len(different)} different vectors; {allowed}")
    first = _init_centroids(different, times, num_clusters, np.random.default_rng(seed))
    with warnings.catch_warnings():
        # A cluster that lost all its vectors stays where it was, and its token may yet find a use.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centroids, _ = kmeans2(vectors, first, iter=MAX_ITERATIONS, minit="matrix")
    return Codebook(normalize(centroids))


def _init_centroids(different: np.ndarray, times: np.ndarray, count: int, drawn: np.random.Generator) -> np.ndarray:
    """[K, D] of the vectors, drawn by their squared distance to the nearest that was drawn before.

    SciPy's own `minit="++"` measures all distances again for each: minutes for 256 clusters of 20,000 sentences.
    """
    chosen = np.zeros(count, np.int64)
    apart = np.full(len(different), 2.0)
    for number in range(count):
        chances = times * apart
        chosen[number] = drawn.choice(len(different), p=chances / chances.sum())
        # Of vectors of length 1; rounded, and that a vector is at no distance from itself must hold nevertheless.
        apart = np.minimum(apart, np.maximum(2 - 2 * (different @ different[chosen[number]]), 1e-9))
        apart[chosen[number]] = 0
    return different[chosen]


def encode(codebook: Codebook, vectors: np.ndarray) -> np.ndarray:
    """[N] int32, the number of the centroid nearest to each vector [N, D]; the first of several."""
    count = len(codebook.centroids)
    tokens = np.zeros(len(vectors), np.int32)
    size = max(MAX_PRODUCTS // count, 1)
    for part, found in zip(cut_rows(vectors, size), cut_rows(tokens, size), strict=True):
        found[:] = np.argmax(part @ codebook.centroids.T, axis=1)
    return tokens


def decode(codebook: Codebook, tokens: np.ndarray) -> np.ndarray:
    """[N, D] float32, the centroids that tokens [N] stand for; raises ValueError for a token that stands for none."""
    tokens, count = np.asarray(tokens), len(codebook.centroids)
    stray = (tokens < 0) | (tokens >= count)
    if stray.any():
        raise ValueError(f"decode: token {tokens[stray][0]}: allowed is 0 to {count - 1}, the codebook's clusters")
    return codebook.centroids[tokens]
