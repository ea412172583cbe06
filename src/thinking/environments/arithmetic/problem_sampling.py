"""Random problems of any length, of one split."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT, SUBTASKS
from thinking.environments.arithmetic.problems import (
    ADD,
    DIVIDE,
    MAX_SIMPLE_DIGITS,
    MODULAR,
    MULTIPLY,
    SUBTRACT,
    WORDINGS,
    Problem,
    division_problems,
)
from thinking.environments.arithmetic.split import Split, find_split, is_held_out, is_trainable

TWO_STEPS, THREE_STEPS = "two_steps", "three_steps"
NUM_OPERATIONS = {TWO_STEPS: 2, THREE_STEPS: 3}
"""Operations of an expression."""

MAX_TRIES = 10_000
"""Samples per problem before an error; most take fewer than ten."""


class Level(NamedTuple):
    """A level of difficulty.

    Attributes:
        operation: one of `WORDINGS`, or TWO_STEPS or THREE_STEPS for expressions of sums, differences, products and
            quotients.
        num_digits: digits of the longer operand (of DIVIDE the dividend, of MODULAR the modulus), from 1; of an
            expression the maximum digits of a number.
        num_other_digits: digits of the other operand, at most `num_digits`; None: uniform from 1 to `num_digits`. Not
            used by modular sums and expressions.
    """

    operation: str
    num_digits: int
    num_other_digits: int | None = None


def sample_problem(
    rng: np.random.Generator, level: Level, split: Split = "train", style: str = CHAIN_OF_THOUGHT
) -> Problem:
    """Sample a problem of a level.

    Args:
        rng: its state changes.
        level: the level.
        split: of the problem; no intermediate problem of a training problem is held out.
        style: of the training rows, one of `chains.STYLES`; ignored in other splits. SUBTASKS adds sub-tasks of
            long products: in a third of the products the right factor has one nonzero digit, in a third both have, and
            half of the sums are of numbers that end in zeros.

    Raises:
        ValueError: for an unknown operation, less than 1 digit, or if no problem of that split is found.
    """
    if level.operation not in (*WORDINGS, *NUM_OPERATIONS):
        names = ", ".join((*WORDINGS, *NUM_OPERATIONS))
        raise ValueError(f"sample_problem: operation {level.operation!r} is unknown; take one of {names}")
    if level.num_digits < 1:
        raise ValueError(f"sample_problem: {level.num_digits} digits are out of range; give at least 1")
    if level.num_other_digits is not None and not 1 <= level.num_other_digits <= level.num_digits:
        raise ValueError(
            f"sample_problem: {level.num_other_digits} digits of the other operand; give 1 to {level.num_digits}"
        )
    is_admitted = functools.partial(is_trainable, style=style) if split == "train" else _is_any
    for _ in range(MAX_TRIES):
        if level.operation in NUM_OPERATIONS:
            problem = _sample_expression(rng, NUM_OPERATIONS[level.operation], level.num_digits, is_admitted)
        else:
            problem = _sample_single(rng, level, split != "train", style)
        if isinstance(problem, Problem) and find_split(problem) == split and is_admitted(problem):
            return problem
    raise ValueError(f"sample_problem: no {split} problem was found for {level}; give more digits")


def _is_any(problem: Problem) -> bool:
    del problem
    return True


def _sample_number(rng: np.random.Generator, digits: int) -> int:
    """A number of exactly so many digits; a single digit may be 0."""
    first = rng.integers(digits > 1, 10)
    return int("".join(map(str, (first, *rng.integers(0, 10, digits - 1)))))


def _sample_ending_in_zeros(rng: np.random.Generator, digits: int) -> int:
    """A nonzero number of exactly so many digits that may end in zeros."""
    zeros = int(rng.integers(digits))
    return max(_sample_number(rng, digits - zeros), 1) * 10**zeros


def _sample_single(rng: np.random.Generator, level: Level, held_out: bool, style: str) -> Problem | None:
    longer, shorter = level.num_digits, level.num_other_digits or int(rng.integers(1, level.num_digits + 1))
    if level.operation == MODULAR:
        modulus = max(_sample_number(rng, longer), 2)
        return Problem(MODULAR, (_sample_below(rng, modulus), _sample_below(rng, modulus), modulus))
    if level.operation == DIVIDE:
        divisor = max(_sample_number(rng, shorter), 1)
        left = _sample_number(rng, longer) if held_out else _sample_dividend(rng, divisor, longer)
        return None if left is None else Problem(DIVIDE, (left, divisor))
    if rng.random() < 0.5:
        longer, shorter = shorter, longer  # from here: digits of the left and of the right operand
    if level.operation == MULTIPLY and style == SUBTASKS and not held_out and (multiples := rng.integers(3)):
        return _sample_product_of_multiples(rng, longer, shorter, both=multiples == 2)
    if level.operation == ADD and style == SUBTASKS and not held_out and rng.random() < 0.5:
        return Problem(ADD, (_sample_ending_in_zeros(rng, longer), _sample_ending_in_zeros(rng, shorter)))
    left = _sample_number(rng, longer)
    if level.operation == MULTIPLY and not held_out:
        right = _sample_factor(rng, left, shorter)
        return None if right is None else Problem(MULTIPLY, (left, right))
    return Problem(level.operation, (left, _sample_number(rng, shorter)))


def _sample_below(rng: np.random.Generator, limit: int) -> int:
    """A number from 0 to limit - 1, of any size."""
    return _sample_number(rng, len(str(limit)) + 8) % limit


def _sample_factor(rng: np.random.Generator, left: int, digits: int) -> int | None:
    """A factor of so many digits for `left`, without held-out partial products or sums.

    Rejection would hardly succeed for long products, so it is sampled digit by digit.
    """
    right = 0
    for position in range(digits):
        for digit in rng.permutation(np.arange(digits > 1 and position == digits - 1, 10)).tolist():
            part = digit * 10**position
            product = Problem(MULTIPLY, (left, part))
            if not part or not (
                is_held_out(product) or (right and is_held_out(Problem(ADD, (left * right, left * part))))
            ):
                right += part
                break
        else:
            return None
    return right


def _sample_product_of_multiples(
    rng: np.random.Generator, left_digits: int, right_digits: int, both: bool
) -> Problem | None:
    """A product whose right factor, or both, has one nonzero digit."""
    right = int(rng.integers(1, 10)) * 10 ** (right_digits - 1)
    if both:
        left = int(rng.integers(1, 10)) * 10 ** (left_digits - 1)
    elif max(left_digits, right_digits) <= MAX_SIMPLE_DIGITS:
        left = _sample_number(rng, left_digits)
    else:
        left = _sample_factor(rng, right, left_digits)  # the left one is decomposed
    return None if left is None else Problem(MULTIPLY, (left, right))


def _sample_dividend(rng: np.random.Generator, divisor: int, digits: int) -> int | None:
    """A dividend of so many digits without held-out intermediate problems, sampled digit by digit."""
    left = rest = 0
    for position in range(digits):
        for digit in rng.permutation(np.arange(digits > 1 and position == 0, 10)).tolist():
            partial_dividend = 10 * rest + digit
            if not any(is_held_out(part) for part in division_problems(partial_dividend, divisor)):
                left, rest = 10 * left + digit, partial_dividend % divisor
                break
        else:
            return None
    return left


def _sample_expression(
    rng: np.random.Generator, num_operations: int, digits: int, is_admitted: Callable[[Problem], bool]
) -> Problem | int | None:
    """A tree of so many operations, each of which is admitted by itself; a number without any; or None."""
    if not num_operations:
        return _sample_number(rng, int(rng.integers(1, digits + 1)))
    for _ in range(8):
        num_left = int(rng.integers(num_operations))
        left = _sample_expression(rng, num_left, digits, is_admitted)
        right = _sample_expression(rng, num_operations - 1 - num_left, digits, is_admitted)
        if left is None or right is None:
            continue
        operation = (ADD, SUBTRACT, MULTIPLY, DIVIDE)[rng.integers(4)]
        first, second = (each.value if isinstance(each, Problem) else each for each in (left, right))
        if min(first, second) < 0 or (operation == DIVIDE and not second):
            continue
        if operation == MULTIPLY and isinstance(right, int) and is_admitted is not _is_any:
            right = second = _sample_factor(rng, first, len(str(second)))
        if second is not None and is_admitted(Problem(operation, (first, second))):
            return Problem(operation, (left, right))
    return None
