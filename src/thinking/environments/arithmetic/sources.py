"""Sources of problems by name: `words` for all small-number problems, or an operation and its number of digits."""

import re

import numpy as np

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT
from thinking.environments.arithmetic.problem_sampling import NUM_OPERATIONS, Level, sample_problem
from thinking.environments.arithmetic.problems import ADD, DIVIDE, MODULAR, MULTIPLY, SUBTRACT, WORDINGS, Problem
from thinking.environments.arithmetic.split import SPLITS, Split, find_split, is_trainable, small_number_problems

SMALL_NUMBER_PROBLEMS = "words"
"""The source of all small-number problems."""

NUM_REPEATS = 20
"""Repetitions of products and quotients in training: they are a hundred times rarer than sums and differences."""

MAX_DIGITS = 1000
"""Maximum digits of a number: products stay below the 4300 digits that Python formats."""


def parse_source(source: str) -> tuple[Level, int | None] | None:
    """The level of a source and its number of problems, if given; None for all small-number problems.

    Raises:
        ValueError: for an invalid name.
    """
    if source == SMALL_NUMBER_PROBLEMS:
        return None
    match = re.fullmatch(r"([a-z_]+):(\d+)(?:x(\d+))?(?::(\d+))?", source)
    numbers = [int(number) for number in match.groups()[1:] if number] if match else []
    if not match or match[1] not in (*WORDINGS, *NUM_OPERATIONS) or 0 in numbers or int(match[3] or 1) > int(match[2]):
        names = ", ".join((*WORDINGS, *NUM_OPERATIONS))
        raise ValueError(
            f"source {source}: not a problem source; give {SMALL_NUMBER_PROBLEMS}, or OPERATION:DIGITS as in "
            f"add:3, multiply:4x2 (digits of the longer and the other operand) or add:3:500 (500 problems), "
            f"with one of {names}"
        )
    if int(match[2]) > MAX_DIGITS:
        raise ValueError(f"source {source}: allowed are 1 to {MAX_DIGITS} digits; give fewer")
    if match[3] and match[1] in (MODULAR, *NUM_OPERATIONS):
        raise ValueError(f"source {source}: {match[1]} has a single operand; give {match[1]}:{match[2]}")
    level = Level(match[1], int(match[2]), int(match[3]) if match[3] else None)
    return level, int(match[4]) if match[4] else None


def check_has_held_out(source: str) -> None:
    """Check that a source has held-out problems.

    Raises:
        ValueError: for an invalid name, or problems of one digit.
    """
    level = (parse_source(source) or (None, None))[0]
    if level is not None and level.num_digits == 1 and level.operation in (ADD, SUBTRACT, MULTIPLY, DIVIDE):
        raise ValueError(
            f"source {source}: chains of longer problems show all problems of one digit, so none is held out; "
            f"give {level.operation}:2"
        )


def sample_problems(
    source: str, num_problems: int, seed: int, split: Split = "train", style: str = CHAIN_OF_THOUGHT
) -> list[Problem]:
    """Problems of a source, in one split; a pure function of the arguments.

    Args:
        source: its name. `words` gives all small-number problems; for training, products and quotients `NUM_REPEATS`
            times.
        num_problems: number of samples, unless the name gives it.
        seed: of the samples.
        split: that of the problems.
        style: of the training rows, which must show nothing that is held out.
    """
    parsed = parse_source(source)
    if parsed is None:
        problems = [
            problem
            for problem in small_number_problems()
            if (is_trainable(problem, style) if split == "train" else find_split(problem) == split)
        ]
        products = [problem for problem in problems if problem.operation in (MULTIPLY, DIVIDE)]
        return problems + (NUM_REPEATS - 1) * products if split == "train" else problems
    (level, named_count), rng = parsed, np.random.default_rng([seed, SPLITS.index(split), *source.encode()])
    return [sample_problem(rng, level, split, style) for _ in range(named_count or num_problems)]
