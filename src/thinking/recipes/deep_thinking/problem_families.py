"""The puzzles of a run: for training, and new ones for evaluation."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.environments.puzzles import (
    Puzzle,
    PuzzleFamily,
    augment,
    make_sudokus,
    mazes,
    prefix_sums,
    reachability,
    sample_puzzles,
    to_puzzle,
)
from thinking.learning.deep_supervision import CellBatch, SampleFn
from thinking.networks.recursion import CellInputs
from thinking.recipes.deep_thinking.config import Config
from thinking.types import Array

TestFn = Callable[[Array, int, int], CellBatch]
"""`sample_test(key, num_puzzles, size) -> CellBatch`; consumes the key."""
FAMILIES = {"mazes": mazes, "prefix_sums": prefix_sums, "reachability": reachability}


class Problem(NamedTuple):
    """Puzzles of one kind.

    Attributes:
        num_features, num_relations, num_classes: as in `recursive_network`.
        sample: of the training size.
        sample_test: of puzzles that are not trained on.
    """

    num_features: int
    num_relations: int
    num_classes: int
    sample: SampleFn
    sample_test: TestFn


class NetworkDims(NamedTuple):
    """Sizes of the puzzles of one kind, as in `recursive_network`."""

    num_features: int
    num_relations: int
    num_classes: int


def find_network_dims(config: Config) -> NetworkDims:
    """The sizes of a config's problem, without any puzzle."""
    if config.puzzle.name == "sudoku":
        return NetworkDims(config.puzzle.size + 1, 3, config.puzzle.size)
    family: PuzzleFamily = FAMILIES[config.puzzle.name]()
    return NetworkDims(family.num_features, family.num_relations, family.num_classes)


def make_problem(config: Config) -> Problem:
    """The problem of a config."""
    puzzle = config.puzzle
    if puzzle.name == "sudoku":
        return _make_sudoku_problem(config)
    family: PuzzleFamily = FAMILIES[puzzle.name]()

    def sample(key: Array, num_rows: int) -> CellBatch:
        return to_batch(sample_puzzles(family, key, num_rows, puzzle.size))

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def sample_test(key: Array, num_rows: int, size: int) -> CellBatch:
        return to_batch(sample_puzzles(family, key, num_rows, size))

    return Problem(*find_network_dims(config), sample, sample_test)


def make_tests(config: Config, problem: Problem) -> dict[int, CellBatch]:
    """New puzzles of each size to evaluate."""
    # Training folds the number of its step into this key.
    key = jax.random.fold_in(jax.random.key(config.seed), 2**31)
    return {
        size: problem.sample_test(jax.random.fold_in(key, size), config.eval.num_puzzles, size)
        for size in config.eval.sizes
    }


def to_batch(puzzles: Puzzle) -> CellBatch:
    """Puzzles as inputs and targets."""
    return CellBatch(CellInputs(puzzles.features, puzzles.neighbors), puzzles.targets)


def _make_sudoku_problem(config: Config) -> Problem:
    """Training puzzles are shuffled by symmetries at every step; test puzzles are as they were made.

    No test puzzle has the clues of a training puzzle; that symmetries turn one into the other is left to chance.
    """
    size, num_train = config.puzzle.size, config.puzzle.num_puzzles
    sudokus = make_sudokus(size, num_train + config.eval.num_puzzles, config.seed)
    clues, solutions = jnp.asarray(sudokus.clues), jnp.asarray(sudokus.solutions)

    def sample_one(key: Array) -> Puzzle:
        index_key, symmetry_key = jax.random.split(key)
        index = jax.random.randint(index_key, (), 0, num_train)
        return to_puzzle(*augment(symmetry_key, clues[index], solutions[index], size), size)

    def sample(key: Array, num_rows: int) -> CellBatch:
        return to_batch(jax.vmap(sample_one)(jax.random.split(key, num_rows)))

    def sample_test(key: Array, num_rows: int, size: int) -> CellBatch:
        del key
        test = slice(num_train, num_train + num_rows)
        return to_batch(jax.vmap(lambda *grids: to_puzzle(*grids, size))(clues[test], solutions[test]))

    return Problem(*find_network_dims(config), sample, sample_test)
