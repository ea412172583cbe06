"""What is held out: a fifth of all problems, told from the problem itself, so that nothing has to be stored.

Not on any side are the digit steps of worked chains (two digits and a carry, or one place of a division by one digit):
they are what chains are made of, and only who has seen them all can learn a chain. A problem of two digits is one such
step, so where a model trains on chains, what it says of held-out problems of longer numbers is what counts.
"""

import hashlib
import itertools
from collections.abc import Iterator

from thinking.environments.arithmetic.chains import SUBTASKS, WORKED
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

SALT = 523
"""Chosen so that the split of the word problems is close to a fifth for each operation."""

MAX_OPERANDS = {ADD: 100, SUBTRACT: 100, MULTIPLY: 10, DIVIDE: 10}
"""The largest operand of word problems; the smallest is 1."""


def canonical_form(problem: Problem) -> str:
    """The same for problems that differ only in wording, notation, or the order of what is added or multiplied."""
    operands = [f"({canonical_form(each)})" if isinstance(each, Problem) else str(each) for each in problem.operands]
    if problem.operation in (ADD, MULTIPLY, MODULAR):
        operands[:2] = sorted(operands[:2])
    return " ".join([problem.operation, *operands])


def is_held_out(problem: Problem) -> bool:
    """Whether it is never to be seen in training."""
    digest = hashlib.blake2b(f"{SALT} {canonical_form(problem)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 5 == 0


def shown_problems(problem: Problem, style: str = WORKED) -> list[Problem]:
    """What a row of a style shows on the way to the answer: in the SUBTASKS style what it asks, if it asks anything.

    What a sub-task takes by itself is not shown there: it is solved in a context of its own.
    """
    return (style == SUBTASKS and subtasks(problem)) or list(intermediate_problems(problem))


def is_trainable(problem: Problem, style: str = WORKED) -> bool:
    """Whether neither it is held out, nor any problem that a row of this style shows on the way to its answer."""
    return not is_held_out(problem) and not any(is_held_out(each) for each in shown_problems(problem, style))


def word_problems() -> Iterator[Problem]:
    """All 20,200 sums and differences of numbers from 1 to 100, products and quotients of 1 to 10, in a fixed order.

    Of each that is not held out, nothing on the way to its answer is.
    """
    for operation, largest in MAX_OPERANDS.items():
        for operands in itertools.product(range(1, largest + 1), repeat=2):
            yield Problem(operation, operands)
