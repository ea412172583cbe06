"""Sudoku: fill a grid so that each row, column and box holds each symbol once.

Puzzles are made on the host, as each must have one solution. They are few, and training multiplies them by the
symmetries of Sudoku, as in Wang et al. (2025) and Jolicoeur-Martineau (2025).

Axes: P puzzles, N cells of a grid of S x S, row by row.
"""

import functools
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments.puzzles.puzzle import Puzzle
from thinking.types import Array

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns of a box, by size."""


class SudokuSet(NamedTuple):
    """Puzzles and their solutions.

    Attributes:
        clues: [P, N] int32, symbols 1 to S; 0 is blank.
        solutions: [P, N] int32, symbols 1 to S.
    """

    clues: np.ndarray
    solutions: np.ndarray


def make_sudokus(size: int, num_puzzles: int, seed: int) -> SudokuSet:
    """Distinct puzzles with one solution each, none of whose clues can be left out.

    Args:
        size: S; 4, 6 or 9.
        num_puzzles: P.
        seed: of Python's generator; the same puzzles for the same seed.

    Raises:
        ValueError: for another size, or less than one puzzle.
    """
    if size not in BOXES or num_puzzles < 1:
        raise ValueError(f"sudoku: size {size}, num_puzzles {num_puzzles}: give size 4, 6 or 9, and at least 1 puzzle")
    generator = random.Random(seed)
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    while len(found) < num_puzzles:
        solution = next(_solve([0] * size**2, size, generator))
        found[_remove_clues(solution, size, generator)] = solution
    return SudokuSet(np.int32(list(found)), np.int32(list(found.values())))


def count_solutions(clues: tuple[int, ...], size: int, limit: int = 2) -> int:
    """How many solutions a grid has, counted up to `limit`."""
    solutions = _solve(list(clues), size)
    return sum(1 for _ in zip(range(limit), solutions, strict=False))


def to_puzzle(clues: Array, solution: Array, size: int) -> Puzzle:
    """A Sudoku [N] as a puzzle: features one-hot clues, relations row, column and box, and answers 0 to S - 1."""
    return Puzzle(jax.nn.one_hot(clues, size + 1), jnp.asarray(sudoku_neighbors(size)), solution - 1)


@functools.lru_cache
def sudoku_neighbors(size: int) -> np.ndarray:
    """[3, N, S - 1] int32, the other cells of each cell's row, column and box."""
    height, width = BOXES[size]
    row, column = np.divmod(np.arange(size**2), size)
    groups = row, column, row // height * (size // width) + column // width
    return np.int32(
        [[np.flatnonzero((group == group[i]) & (row * size + column != i)) for i in range(size**2)] for group in groups]
    )


def augment(key: Array, clues: Array, solution: Array, size: int) -> tuple[Array, Array]:
    """A random symmetric equivalent of a grid [N]: symbols, bands, stacks and lines are permuted.

    Solutions stay solutions. Consumes the key.
    """
    symbol_key, row_key, column_key = jax.random.split(key, 3)
    height, width = BOXES[size]
    rows, columns = _shuffle_lines(row_key, size, height), _shuffle_lines(column_key, size, width)
    cells = (rows[:, None] * size + columns[None]).reshape(-1)
    symbols = jnp.concatenate([jnp.zeros(1, jnp.int32), 1 + jax.random.permutation(symbol_key, size)])
    return symbols[clues[cells]], symbols[solution[cells]]


def _shuffle_lines(key: Array, size: int, band_size: int) -> Array:
    """[S] an order of lines that keeps bands of this size together."""
    band_key, line_key = jax.random.split(key)
    bands = jax.random.permutation(band_key, size // band_size)
    within = jax.vmap(lambda each: jax.random.permutation(each, band_size))(
        jax.random.split(line_key, size // band_size)
    )
    return (bands[:, None] * band_size + within).reshape(-1)


def _remove_clues(solution: tuple[int, ...], size: int, generator: random.Random) -> tuple[int, ...]:
    """Removes clues in random order; keeps each one without which the solution is not unique."""
    clues = list(solution)
    for cell in generator.sample(range(len(clues)), len(clues)):
        symbol, clues[cell] = clues[cell], 0
        if count_solutions(tuple(clues), size) > 1:
            clues[cell] = symbol
    return tuple(clues)


def _solve(grid: list[int], size: int, generator: random.Random | None = None):
    """Iterate over all solutions: the blank cell with the fewest candidates first; changes the grid."""
    height, width = BOXES[size]
    every = 2 ** (size + 1) - 2
    rows, columns, boxes = [every] * size, [every] * size, [every] * size
    places = [(i // size, i % size, i // size // height * (size // width) + i % size // width) for i in range(size**2)]
    for (row, column, box), symbol in zip(places, grid, strict=True):
        if symbol:
            for free, line in ((rows, row), (columns, column), (boxes, box)):
                free[line] &= ~(1 << symbol)
    blanks = [cell for cell, symbol in enumerate(grid) if not symbol]

    def search(blanks: list[int]):
        if not blanks:
            yield tuple(grid)
            return
        best, options = -1, 0
        fewest = size + 1
        for cell in blanks:
            row, column, box = places[cell]
            candidates = rows[row] & columns[column] & boxes[box]
            if (count := candidates.bit_count()) < fewest:
                best, options, fewest = cell, candidates, count
                if count <= 1:
                    break
        rest = [cell for cell in blanks if cell != best]
        row, column, box = places[best]
        symbols = [symbol for symbol in range(1, size + 1) if options >> symbol & 1]
        if generator is not None:
            generator.shuffle(symbols)
        for symbol in symbols:
            bit = 1 << symbol
            grid[best] = symbol
            rows[row] ^= bit
            columns[column] ^= bit
            boxes[box] ^= bit
            yield from search(rest)
            rows[row] ^= bit
            columns[column] ^= bit
            boxes[box] ^= bit
        grid[best] = 0

    yield from search(blanks)
