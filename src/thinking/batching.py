"""Many rows in parts: cut on the host, so that memory is bounded and a program is compiled for one shape.

Axes: R rows, B rows of a batch, C batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

Rows = TypeVar("Rows", Sequence[Any], np.ndarray)


def cut_rows(rows: Rows, size: int) -> Iterator[Rows]:
    """Parts of a sequence or of an array, in order, each of so many rows; the last may have fewer."""
    return (rows[first : first + size] for first in range(0, len(rows), size))


def batch_indices(num_rows: int, batch_size: int) -> np.ndarray:
    """[C, B] numbers of rows, in order. The last batch is filled up with rows from the front."""
    return (np.arange(-(-num_rows // batch_size) * batch_size) % num_rows).reshape(-1, batch_size)


def apply_in_batches(function: Callable[..., Any], arrays: Any, batch_size: int) -> Any:
    """What a jitted function of rows gives for many rows, called with so many of them at a time.

    Args:
        function: `function(arrays) -> PyTree` of arrays [B, ...]. A row does not depend on those that a batch is filled
            up with, see `batch_indices`.
        arrays: a PyTree of arrays [R, ...], R at least 1.
        batch_size: B, rows of a call.

    Returns:
        A PyTree of NumPy arrays [R, ...].
    """
    import jax  # which starts slowly, and `cut_rows` does without it

    arrays = jax.tree.map(np.asarray, arrays)
    rows = len(jax.tree.leaves(arrays)[0])
    found = [
        jax.device_get(function(jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], arrays)))
        for chosen in batch_indices(rows, batch_size)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:rows], *found)
