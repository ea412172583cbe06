"""Puzzles over cells, from sizes that a network is trained on to sizes that take longer thought."""

from thinking.environments.puzzles.mazes import mazes
from thinking.environments.puzzles.prefix_sums import prefix_sums
from thinking.environments.puzzles.puzzle import Puzzle, PuzzleFamily, grid_neighbors, sample_puzzles
from thinking.environments.puzzles.reachability import reachability
from thinking.environments.puzzles.sudoku import (
    SudokuSet,
    augment,
    count_solutions,
    make_sudokus,
    sudoku_neighbors,
    to_puzzle,
)

__all__ = [
    "Puzzle",
    "PuzzleFamily",
    "SudokuSet",
    "augment",
    "count_solutions",
    "grid_neighbors",
    "make_sudokus",
    "mazes",
    "prefix_sums",
    "reachability",
    "sample_puzzles",
    "sudoku_neighbors",
    "to_puzzle",
]
