"""Codecs between vectors and the codes that a layer reads: a linear transformation, or tokens.

Each codec has a *separator*, a code of no vector: a layer's input where a sub-trajectory begins, and its value where
one ends.

Axes: N vectors, D dimensions of them, K dimensions of codes, or tokens.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from thinking.types import Array, Box, Discrete, Space


class Codec(NamedTuple):
    """A code of vectors.

    Attributes:
        space: of the codes.
        encode: `encode(vectors [..., D]) -> codes [..., *space.shape]`.
        decode: `decode(codes) -> vectors`, the nearest reconstruction.
        separator: the code at the beginning and end of a sub-trajectory.
        is_separator: `is_separator(codes) -> [...] bool`.
    """

    space: Space
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    separator: Array
    is_separator: Callable[[Array], Array]


class Whitening(NamedTuple):
    """A linear transformation to codes of about equal variance in all directions.

    Attributes:
        mean: [D].
        forward: [D, K].
        backward: [K, D], of codes to vectors.
    """

    mean: np.ndarray
    forward: np.ndarray
    backward: np.ndarray


VARIANCE_FLOOR = 0.02
"""Share of the largest variance that is added to each: directions of little variance are noise, and stay small."""


def whitening(vectors: np.ndarray, dims: int) -> Whitening:
    """At most `dims` principal components of vectors [N, D], scaled to about equal variance (Kessy et al. 2018).

    Averages of many vectors differ little and in few directions; without whitening a layer could hardly tell them
    apart.

    Raises:
        ValueError: if no two vectors differ, or `dims` is below 1.
    """
    vectors = np.asarray(vectors, np.float64)
    mean = vectors.mean(axis=0)
    _, spread, components = np.linalg.svd(vectors - mean, full_matrices=False)
    count = min(dims, int((spread > 1e-6 * max(spread[0], 1e-12)).sum()))
    if count < 1 or spread[0] < 1e-12:
        raise ValueError(
            f"whitening of {len(vectors)} vectors to {dims} dimensions: give two that differ, and 1 or more"
        )
    variance = spread[:count] ** 2 / len(vectors)
    scale = np.sqrt(variance + VARIANCE_FLOOR * variance[0])
    # The mean variance of a code dimension is 1, whatever the floor.
    scale *= np.sqrt(np.mean(variance / scale**2))
    forward, backward = components[:count].T / scale, components[:count] * scale[:, None]
    return Whitening(*(part.astype(np.float32) for part in (mean, forward, backward)))


def whitening_codec(transformation: Whitening) -> Codec:
    """Codes [..., K + 1]; the last dimension is the separator."""
    mean, forward, backward = map(jnp.asarray, transformation)
    dims = forward.shape[1]
    size = float(np.sqrt(dims))  # the mean length of a code

    def encode(vectors: Array) -> Array:
        codes = (vectors - jnp.broadcast_to(mean, vectors.shape)) @ forward
        return jnp.concatenate([codes, jnp.zeros((*codes.shape[:-1], 1))], axis=-1)

    def decode(codes: Array) -> Array:
        offsets = codes[..., :-1] @ backward
        return offsets + jnp.broadcast_to(mean, offsets.shape)

    return Codec(
        Box(dims + 1),
        encode,
        decode,
        jnp.zeros(dims + 1).at[-1].set(size),
        lambda codes: codes[..., -1] > size / 2,
    )


def token_codec(centroids: np.ndarray) -> Codec:
    """Codes are indices of centroids [K, D], the nearest in direction; the separator is K and decodes to their mean."""
    directions = jnp.asarray(centroids)
    vectors_by_token = jnp.concatenate([directions, directions.mean(axis=0, keepdims=True)])
    separator = len(centroids)

    def encode(vectors: Array) -> Array:
        return jnp.argmax(vectors @ directions.T, axis=-1).astype(jnp.int32)

    return Codec(
        Discrete(separator + 1),
        encode,
        lambda codes: vectors_by_token[codes],
        jnp.int32(separator),
        lambda codes: codes == separator,
    )


def concat_target_space(above: Sequence[Codec]) -> Space:
    """The space of a layer's targets, from the codecs of all levels above, the nearest first; see `concat_targets`."""
    spaces = [codec.space for codec in above]
    sizes = [space.dims for space in spaces if isinstance(space, Box)]
    return Box(sum(sizes)) if len(sizes) == len(spaces) else spaces[0]


def concat_targets(codes: Sequence[Array]) -> Array:
    """A layer's target [..., sum of K]: the codes of its sub-goal and of those of all layers above, the nearest first.

    A sub-goal is an estimate of the mean of its steps. With the goal visible a layer can still tell apart steps that
    share a mean. Tokens are not concatenated: the layer gets its own sub-goal alone.
    """
    are_vectors = all(jnp.issubdtype(code.dtype, jnp.floating) for code in codes)
    return jnp.concatenate(codes, axis=-1) if are_vectors else codes[0]
