"""Mazes without loops: mark the only path between two cells.

A random depth-first search carves the corridors, as in the mazes of Schwarzschild et al. (2021): they are long and
winding, so the path grows much faster than the side of the maze.

Axes: N cells.
"""

import jax
import jax.numpy as jnp

from thinking.environments.puzzles.puzzle import Puzzle, PuzzleFamily, grid_neighbors
from thinking.types import Array


def mazes() -> PuzzleFamily:
    """Square mazes; the size is the number of cells of a side.

    Features: whether the cell is the start, and whether it is the end. Neighbors: the cells beside it without a wall
    between. Answer: 1 on the path, ends included.
    """
    return PuzzleFamily("mazes", _sample, num_features=2, num_relations=1, num_classes=2)


def _sample(key: Array, size: int) -> Puzzle:
    maze_key, end_key = jax.random.split(key)
    parent, depth = _carve(maze_key, size)
    num_cells = size * size
    ends = jax.random.choice(end_key, num_cells, (2,), replace=False)
    beside = jnp.asarray(grid_neighbors(size, size))
    is_open = (beside >= 0) & ((parent[:, None] == beside) | (parent[beside] == jnp.arange(num_cells)[:, None]))
    return Puzzle(
        jax.nn.one_hot(ends, num_cells).T,
        jnp.where(is_open, beside, -1)[None],
        _find_path(parent, depth, ends).astype(jnp.int32),
    )


def _carve(key: Array, size: int) -> tuple[Array, Array]:
    """Parent [N] of each cell in a random spanning tree (-1 of the root), and its depth [N]."""
    num_cells = size * size
    beside = jnp.asarray(grid_neighbors(size, size))
    root_key, order_key = jax.random.split(key)
    root = jax.random.randint(root_key, (), 0, num_cells)
    unseen = -2
    num_moves = 2 * num_cells  # each cell is entered and left once
    preference = jax.random.uniform(order_key, (num_moves, 4))

    def move(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        cell, parent, depth = state
        is_free = (beside[cell] >= 0) & (parent[beside[cell]] == unseen)
        following = beside[cell, jnp.argmax(jnp.where(is_free, preference[index], -1))]
        can_enter = jnp.any(is_free)
        entered = jnp.where(can_enter, following, num_cells)  # out of bounds: nothing is written
        parent = parent.at[entered].set(cell, mode="drop")
        depth = depth.at[entered].set(depth[cell] + 1, mode="drop")
        return jnp.where(can_enter, following, jnp.where(parent[cell] >= 0, parent[cell], cell)), parent, depth

    parent = jnp.full(num_cells, unseen, jnp.int32).at[root].set(-1)
    _, parent, depth = jax.lax.fori_loop(0, num_moves, move, (root, parent, jnp.zeros(num_cells, jnp.int32)))
    return parent, depth


def _find_path(parent: Array, depth: Array, ends: Array) -> Array:
    """[N] bool, the path between two cells of a tree: ancestors of one but not of both, and their lowest common one."""
    num_cells = len(parent)

    def climb(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        visited, cell = state
        return visited.at[cell].set(True), jnp.where(parent[cell] >= 0, parent[cell], cell)

    def find_ancestors(cell: Array) -> Array:
        return jax.lax.fori_loop(0, num_cells, climb, (jnp.zeros(num_cells, bool), cell))[0]

    first, second = find_ancestors(ends[0]), find_ancestors(ends[1])
    meeting = jnp.argmax(jnp.where(first & second, depth, -1))
    return (first ^ second).at[meeting].set(True)
