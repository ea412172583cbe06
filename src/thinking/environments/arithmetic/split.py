"""The held-out fifth of all problems, determined by a hash of the problem.

Digit steps of worked chains (two digits and a carry, or one place of a division by one digit) are on neither side:
every chain needs them. A problem of one digit each is such a step, so for models trained on chains the results on
longer held-out problems count.
"""

import hashlib
import itertools
from collections.abc import Iterator

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

SALT = 523
"""Chosen so that about a fifth of the word problems of each operation is held out."""

MAX_OPERANDS = {ADD: 100, SUBTRACT: 100, MULTIPLY: 10, DIVIDE: 10}
"""The largest operand of word problems; the smallest is 1."""


def canonical_form(problem: Problem) -> str:
    """A string equal for problems that differ only in wording, notation, or order of summands or factors."""
    operands = [f"({canonical_form(each)})" if isinstance(each, Problem) else str(each) for each in problem.operands]
    if problem.operation in (ADD, MULTIPLY, MODULAR):
        operands[:2] = sorted(operands[:2])
    return " ".join([problem.operation, *operands])


def is_held_out(problem: Problem) -> bool:
    """Whether the problem is held out of training."""
    digest = hashlib.blake2b(f"{SALT} {canonical_form(problem)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 5 == 0


def shown_problems(problem: Problem, style: str = CHAIN_OF_THOUGHT) -> list[Problem]:
    """The problems that a training row of a style shows before the answer; of SUBTASKS the sub-tasks, if any.

    Intermediate problems of a sub-task are not shown, because it is solved in its own context.
    """
    return (style == SUBTASKS and subtasks(problem)) or list(intermediate_problems(problem))


def is_trainable(problem: Problem, style: str = CHAIN_OF_THOUGHT) -> bool:
    """Whether neither the problem nor any that its training row shows is held out."""
    return not is_held_out(problem) and not any(is_held_out(each) for each in shown_problems(problem, style))


def word_problems() -> Iterator[Problem]:
    """All 20,200 sums and differences of numbers from 1 to 100, products and quotients of 1 to 10, in a fixed order.

    None that is not held out has an intermediate problem that is.
    """
    for operation, largest in MAX_OPERANDS.items():
        for operands in itertools.product(range(1, largest + 1), repeat=2):
            yield Problem(operation, operands)
