"""Batches of rows, cut on the host: memory is bounded, and one shape is compiled.

Axes: R rows, B rows of a batch, C batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

Rows = TypeVar("Rows", Sequence[Any], np.ndarray)


def cut_rows(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut a sequence or an array into parts of `size` rows, in order; the last may have fewer."""
    return (rows[first : first + size] for first in range(0, len(rows), size))


def batch_indices(num_rows: int, batch_size: int) -> np.ndarray:
    """[C, B] row indices in order. The last batch is filled with rows from the front."""
    return (np.arange(-(-num_rows // batch_size) * batch_size) % num_rows).reshape(-1, batch_size)


def apply_in_batches(function: Callable[..., Any], arrays: Any, batch_size: int) -> Any:
    """Apply a jitted function of rows to many rows, one batch at a time.

    Args:
        function: `function(arrays) -> PyTree` of arrays [B, ...], each row independent of the others.
        arrays: a PyTree of arrays [R, ...], R at least 1.
        batch_size: B.

    Returns:
        A PyTree of NumPy arrays [R, ...].
    """
    import jax  # slow to import, and `cut_rows` does not need it

    arrays = jax.tree.map(np.asarray, arrays)
    num_rows = len(jax.tree.leaves(arrays)[0])
    outputs = [
        jax.device_get(function(jax.tree.map(lambda leaf, indices=indices: leaf[indices], arrays)))
        for indices in batch_indices(num_rows, batch_size)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_rows], *outputs)
