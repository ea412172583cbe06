"""The split of all problems, determined by a hash: four fifths for training, a tenth for development, a tenth for test.

Problems with the same chain fall into the same split, and so does every problem whose result a training chain writes
out. A single digit step (two digits and a carry, or one place of a division by one digit) occurs in every chain. A
problem that is one such step is a *fact*: it is never held out.

Settings are chosen on the development problems. The test problems are for the figures that are reported.
"""

import hashlib
import itertools
from collections.abc import Iterator
from typing import Literal

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT, SUBTASKS
from thinking.environments.arithmetic.problems import (
    ADD,
    DIVIDE,
    MODULAR,
    MULTIPLY,
    SUBTRACT,
    Problem,
    intermediate_problems,
    subtasks,
)

Split = Literal["train", "development", "test"]
SPLITS: tuple[Split, ...] = ("train", "development", "test")

SALT = 523
"""Chosen so that about a fifth of the sums and differences of small-number problems is held out.

Their products and most of their quotients are facts, which belong to training."""

MAX_OPERANDS = {ADD: 100, SUBTRACT: 100, MULTIPLY: 10, DIVIDE: 10}
"""The largest operand of small-number problems; the smallest is 1."""


def canonical_form(problem: Problem) -> str:
    """A string equal for problems whose chains have the same digit steps.

    Such problems may differ only in wording, notation, order of the operands of a sum, difference or product, or zeros
    at the end: of a factor, or of both numbers of a sum or difference.
    """
    operands = [f"({canonical_form(each)})" if isinstance(each, Problem) else each for each in problem.operands]
    if problem.operation == MULTIPLY:
        operands = [_strip_zeros(each) for each in operands]
    if problem.operation in (ADD, SUBTRACT) and not problem.is_nested and any(operands):
        while all(each % 10 == 0 for each in operands):
            operands = [each // 10 for each in operands]
    words = list(map(str, operands))
    if problem.operation != DIVIDE:
        words[:2] = sorted(words[:2])
    return " ".join([problem.operation, *words])


def _strip_zeros(operand: int | str) -> int | str:
    while isinstance(operand, int) and operand and operand % 10 == 0:
        operand //= 10
    return operand


def is_fact(problem: Problem) -> bool:
    """Whether the problem, or the one with its operands swapped, is solved in a single digit step."""
    if problem.is_nested or problem.operation == MODULAR:
        return False
    if problem.operation == DIVIDE:
        dividend, divisor = problem.values
        return divisor < 10 and dividend < 10 * divisor
    return all(int(word) < 10 for word in canonical_form(problem).split()[1:])


def list_facts() -> list[Problem]:
    """All facts without zeros at the end: sums, differences and products of two digits, and quotients below 10."""
    facts = [
        Problem(operation, digits)
        for operation in (ADD, SUBTRACT, MULTIPLY)
        for digits in itertools.product(range(10), repeat=2)
    ]
    return facts + [
        Problem(DIVIDE, (dividend, divisor)) for divisor in range(1, 10) for dividend in range(10 * divisor)
    ]


def find_split(problem: Problem) -> Split:
    """The split of a problem."""
    if is_fact(problem):
        return "train"
    digest = hashlib.blake2b(f"{SALT} {canonical_form(problem)}".encode(), digest_size=8).digest()
    bucket = int.from_bytes(digest, "big") % 10
    return "test" if bucket == 0 else "development" if bucket == 5 else "train"


def is_held_out(problem: Problem) -> bool:
    """Whether the problem is held out of training."""
    return find_split(problem) != "train"


def list_solution_problems(problem: Problem, style: str = CHAIN_OF_THOUGHT) -> list[Problem]:
    """The problems whose results a training row of a style contains before the answer.

    In the style SUBTASKS they are the sub-tasks; of a problem without sub-tasks they are its intermediate problems.

    Those of a sub-task are not among them, because it is solved in its own context.
    """
    return (style == SUBTASKS and subtasks(problem)) or list(intermediate_problems(problem))


def is_trainable(problem: Problem, style: str = CHAIN_OF_THOUGHT) -> bool:
    """Whether neither the problem nor any whose result its training row contains is held out."""
    return not is_held_out(problem) and not any(is_held_out(each) for each in list_solution_problems(problem, style))


def small_number_problems() -> Iterator[Problem]:
    """All 20,200 sums and differences of numbers from 1 to 100, products and quotients of 1 to 10, in a fixed order.

    No training problem among them has a held-out intermediate problem.
    """
    for operation, largest in MAX_OPERANDS.items():
        for operands in itertools.product(range(1, largest + 1), repeat=2):
            yield Problem(operation, operands)
