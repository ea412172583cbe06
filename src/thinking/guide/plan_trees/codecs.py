"""How a layer sees vectors: a linear embedding transformation in front of it, or tokens.

A codec also has a *mark*, which is nothing's code: a layer reads it where a leg begins, and answers it where one ends.

Axes: N vectors, D dimensions of them, K dimensions of codes, or tokens.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from thinking.types import Array, Box, Discrete, Space


class Codec(NamedTuple):
    """What stands between vectors and a layer.

    Attributes:
        space: of the codes.
        encode: `encode(vectors [..., D]) -> codes [..., *space.shape]`.
        decode: `decode(codes) -> vectors`, as near to what was encoded as codes tell.
        mark: the code where a leg begins and ends.
        is_mark: `is_mark(codes) -> [...] bool`.
    """

    space: Space
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    mark: Array
    is_mark: Callable[[Array], Array]


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
    """The principal components of vectors, scaled to about equal variance (Kessy et al. 2018), K in all.

    Averages of many vectors differ by little, and in few directions; without this a layer would hardly see them differ.

    Args:
        vectors: [N, D], at least two that differ.
        dims: the most components, of those that the vectors have.

    Raises:
        ValueError: if no two vectors differ, or no component is asked for.
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
    # In all, codes vary by 1 a dimension, whatever the floor took.
    scale *= np.sqrt(np.mean(variance / scale**2))
    forward, backward = components[:count].T / scale, components[:count] * scale[:, None]
    return Whitening(*(part.astype(np.float32) for part in (mean, forward, backward)))


def whitening_codec(transformation: Whitening) -> Codec:
    """Codes [..., K + 1]: the last number tells the mark."""
    mean, forward, backward = map(jnp.asarray, transformation)
    dims = forward.shape[1]
    size = float(np.sqrt(dims))  # as long as a code is in the mean

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
    """Codes are numbers of centroids [K, D], the nearest in direction; K is the mark, and decodes to their mean."""
    directions = jnp.asarray(centroids)
    meanings = jnp.concatenate([directions, directions.mean(axis=0, keepdims=True)])
    count = len(centroids)

    def encode(vectors: Array) -> Array:
        return jnp.argmax(vectors @ directions.T, axis=-1).astype(jnp.int32)

    return Codec(
        Discrete(count + 1), encode, lambda codes: meanings[codes], jnp.int32(count), lambda codes: codes == count
    )


def concat_target_space(above: Sequence[Codec]) -> Space:
    """Of what a layer pursues, given the codecs of all that is above it, the nearest first; see `concat_targets`."""
    spaces = [codec.space for codec in above]
    sizes = [space.dims for space in spaces if isinstance(space, Box)]
    return Box(sum(sizes)) if len(sizes) == len(spaces) else spaces[0]


def concat_targets(codes: Sequence[Array]) -> Array:
    """What a layer pursues: its target, and behind it those of all layers above, [..., sum of K].

    A sub-goal is a guess of what its steps are in the mean. With the goal in sight a layer can still tell steps that
    no such mean was made of. Tokens are not put together: it pursues its own alone.

    Args:
        codes: of its target, and of those of the layers above, the nearest first.
    """
    vectors = all(jnp.issubdtype(code.dtype, jnp.floating) for code in codes)
    return jnp.concatenate(codes, axis=-1) if vectors else codes[0]
