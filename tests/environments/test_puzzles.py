"""Puzzles: answers against networkx, and Sudokus against their rules."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from thinking.environments.puzzles import (
    augment,
    count_solutions,
    make_sudokus,
    mazes,
    prefix_sums,
    reachability,
    sample_puzzles,
    sudoku_neighbors,
    to_puzzle,
)
from thinking.environments.puzzles.sudoku import BOXES


def sample(family, num_puzzles, size, seed=0):
    sampler = jax.jit(lambda key: sample_puzzles(family, key, num_puzzles, size))
    return jax.tree.map(np.asarray, sampler(jax.random.key(seed)))


def to_graph(neighbors):
    """A directed graph with an edge from each seen cell to the cell that sees it."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(neighbors)))
    graph.add_edges_from((int(seen), cell) for cell, row in enumerate(neighbors) for seen in row if seen >= 0)
    return graph


@pytest.mark.parametrize("size", [2, 5, 8])
def test_a_maze_is_a_tree_and_its_answer_is_the_path(size):
    puzzles = sample(mazes(), 20, size)
    shapes = set()
    for features, neighbors, targets in zip(*puzzles, strict=True):
        graph = to_graph(neighbors[0])
        assert nx.is_tree(graph.to_undirected())
        assert graph.number_of_edges() == 2 * (size**2 - 1)
        start, end = features.argmax(axis=0)
        assert start != end
        assert set(np.flatnonzero(targets)) == set(nx.shortest_path(graph, start, end))
        shapes.add(tuple(sorted(graph.edges)))
    assert len(shapes) > 3


def test_reachability_equals_descendants():
    puzzles = sample(reachability(), 50, 24)
    for features, neighbors, targets in zip(*puzzles, strict=True):
        start = int(features[:, 0].argmax())
        assert set(np.flatnonzero(targets)) == {start} | nx.descendants(to_graph(neighbors[0]), start)
    assert 0.2 < puzzles.targets.mean() < 0.8


def test_prefix_sums_equal_running_parity():
    puzzles = sample(prefix_sums(), 10, 17)
    bits = puzzles.features.argmax(axis=-1)
    np.testing.assert_array_equal(puzzles.targets, np.cumsum(bits, axis=1) % 2)
    np.testing.assert_array_equal(puzzles.neighbors[0, 0, :, 0], np.arange(17) - 1)
    np.testing.assert_array_equal(puzzles.neighbors[0, 1, :, 0], [*range(1, 17), -1])


def is_solution(grid, size):
    height, width = BOXES[size]
    cells = np.reshape(grid, (size, size))
    boxes = cells.reshape(size // height, height, size // width, width).swapaxes(1, 2).reshape(size, size)
    return all(sorted(line) == list(range(1, size + 1)) for line in itertools.chain(cells, cells.T, boxes))


@pytest.mark.parametrize("size", [4, 6])
def test_sudokus_have_one_solution_and_no_clue_to_spare(size):
    sudokus = make_sudokus(size, 5, seed=1)
    assert len({tuple(clues) for clues in sudokus.clues}) == 5
    for clues, solution in zip(sudokus.clues, sudokus.solutions, strict=True):
        assert is_solution(solution, size)
        assert ((clues == 0) | (clues == solution)).all()
        assert count_solutions(tuple(clues), size) == 1
        for cell in np.flatnonzero(clues):
            fewer = tuple(np.where(np.arange(size**2) == cell, 0, clues))
            assert count_solutions(fewer, size) > 1


def test_an_empty_grid_of_four_has_288_solutions():
    assert count_solutions((0,) * 16, 4, limit=1000) == 288


def test_symmetries_keep_sudokus_and_differ():
    sudokus = make_sudokus(6, 1, seed=2)
    clues, solution = jnp.asarray(sudokus.clues[0]), jnp.asarray(sudokus.solutions[0])
    keys = jax.random.split(jax.random.key(0), 50)
    all_clues, solutions = jax.jit(jax.vmap(lambda key: augment(key, clues, solution, 6)))(keys)
    for new_clues, new_solution in zip(np.asarray(all_clues), np.asarray(solutions), strict=True):
        assert is_solution(new_solution, 6)
        assert ((new_clues == 0) | (new_clues == new_solution)).all()
        assert (new_clues > 0).sum() == (sudokus.clues > 0).sum()
    assert len({tuple(row) for row in np.asarray(solutions).tolist()}) > 40


def test_cells_of_a_sudoku_see_their_row_column_and_box():
    neighbors = sudoku_neighbors(6)
    assert neighbors.shape == (3, 36, 5)
    assert neighbors[:, 8].tolist() == [[6, 7, 9, 10, 11], [2, 14, 20, 26, 32], [0, 1, 2, 6, 7]]
    puzzle = to_puzzle(jnp.int32([0] * 15 + [4]), jnp.int32([1] * 15 + [4]), 4)
    assert puzzle.features[0].tolist() == [1, 0, 0, 0, 0]
    assert puzzle.targets[15] == 3


@pytest.mark.parametrize(("size", "num_puzzles"), [(5, 1), (4, 0)])
def test_other_sizes_of_sudoku_are_refused(size, num_puzzles):
    with pytest.raises(ValueError, match="give size 4, 6 or 9, and at least 1 puzzle"):
        make_sudokus(size, num_puzzles, 0)
