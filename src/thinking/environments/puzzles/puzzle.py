"""Puzzles over cells: each cell has features, neighbors and an answer, so one network takes all of them, at any size.

Axes: N cells, F features, R relations, K neighbors of a relation, B puzzles of a batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from thinking.types import Array


class Puzzle(NamedTuple):
    """A puzzle, or a batch of puzzles of one size with the leading axis B.

    Attributes:
        features: [N, F] float32, what is known of each cell.
        neighbors: [R, N, K] int32, the cells that each cell sees, by relation; -1 for none.
        targets: [N] int32, the answer at each cell.
    """

    features: Array
    neighbors: Array
    targets: Array


class PuzzleFamily(NamedTuple):
    """Puzzles of one kind, of all sizes.

    Attributes:
        name: of the family.
        sample: `sample(key, size) -> Puzzle` makes one on the device; consumes the key. The size is a Python integer.
        num_features: F.
        num_relations: R.
        num_classes: answers of a cell are 0 to `num_classes - 1`.
    """

    name: str
    sample: Callable[[Array, int], Puzzle]
    num_features: int
    num_relations: int
    num_classes: int


def sample_puzzles(family: PuzzleFamily, key: Array, num_puzzles: int, size: int) -> Puzzle:
    """A batch of puzzles of one size; consumes the key."""
    return jax.vmap(lambda each: family.sample(each, size))(jax.random.split(key, num_puzzles))


def grid_neighbors(height: int, width: int) -> np.ndarray:
    """[N, 4] int32 the cells above, below, left and right of each cell of a grid, row by row; -1 outside."""
    index = np.pad(np.arange(height * width, dtype=np.int32).reshape(height, width), 1, constant_values=-1)
    sides = index[:-2, 1:-1], index[2:, 1:-1], index[1:-1, :-2], index[1:-1, 2:]
    return np.stack([side.reshape(-1) for side in sides], axis=1)
