"""PyTrees: selecting rows, leaves on the host, and digests."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.types import Array, Params


class Leaf(NamedTuple):
    """One leaf on the host.

    Attributes:
        path: its place in the tree, as `.params['w'][0]`.
        dtype: its type; for a typed PRNG key, the name of its implementation.
        array: its values, `[...]`; for a typed PRNG key, its raw data.
    """

    path: str
    dtype: str
    array: np.ndarray


def host_leaves(tree: Any) -> list[Leaf]:
    """Copy the leaves of a PyTree to the host, in the tree's order."""
    flat, _ = jax.tree.flatten_with_path(tree)
    arrays = jax.device_get([jax.random.key_data(leaf) if is_key(leaf) else leaf for _, leaf in flat])
    leaves = []
    for (path, leaf), array in zip(flat, map(np.asarray, arrays), strict=True):
        dtype = leaf.dtype if is_key(leaf) else array.dtype
        leaves.append(Leaf(jax.tree_util.keystr(path), str(dtype), array))
    return leaves


def digest(tree: Any) -> str:
    """SHA-256 over the leaves of a PyTree (paths, types, shapes, bytes). Equal digests mean equal bits."""
    return digest_leaves(host_leaves(tree))


def digest_leaves(leaves: Iterable[Leaf]) -> str:
    """The digest of leaves on the host."""
    sha = hashlib.sha256()
    for path, dtype, array in leaves:
        sha.update(f"{path}\0{dtype}\0{array.shape}\0".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def count_parameters(params: Params) -> int:
    """The number of values in a PyTree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def count_bytes(tree: Any) -> int:
    """The bytes of all arrays in a PyTree, or of arrays that are described by `jax.eval_shape`."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def take_rows(tree: Any, rows: Array) -> Any:
    """Select rows of every leaf by index."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], tree)


def select_rows(condition: Array, tree: Any, other: Any) -> Any:
    """Rows of `tree` (leaves [R, ...]) where the condition [R] holds, rows of `other` elsewhere."""

    def choose(leaf: Array, another: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (leaf.ndim - condition.ndim)), leaf, another)

    return jax.tree.map(choose, tree, other)
