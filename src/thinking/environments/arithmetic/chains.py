"""Worked chains of thought, and which steps of any chain are right.

A chain is a list of steps. Each is a small computation of fixed form on what stands right before it or in the question:

- `7+8+0=5,1` two digits and the carry: the digit of the sum, and the carry
- `3-8-0=5,1` two digits and the borrow: the digit of the difference, and the borrow
- `7*8+3=9,5` two digits and the carry: the digit of the product, and the carry
- `57/8=7,1` what is left, and a divisor of one digit: the digit of the quotient, and the remainder
- `57/12=4` what is left, and a longer divisor: the digit of the quotient; its product and a difference follow
- `=456` what the steps before came to; `=7*5` the same put into what is left of an expression
- `<ask>12*4=<answer>48` a problem of its own, which can be solved elsewhere
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.problems import (
    ADD,
    DIVIDE,
    MODULAR,
    MULTIPLY,
    SUBTRACT,
    Problem,
    find_innermost,
    format_answer,
    format_expression,
    format_number,
    format_question,
    long_division,
    place_values,
    reduce_innermost,
    subtasks,
)

DIRECT, WORKED, SUBTASKS, REVISED = "direct", "worked", "subtasks", "revised"
STYLES = (DIRECT, WORKED, SUBTASKS, REVISED)
"""Ways to answer: at once; step by step; by sub-tasks where there are any; step by step with slips taken back."""


class VerifiedStep(NamedTuple):
    """A step of a given chain.

    Attributes:
        text: what it says, without its check.
        is_correct: whether the worked chain says the same at this place.
        is_withdrawn: whether the chain itself withdraws it; what follows stands at the same place.
    """

    text: str
    is_correct: bool
    is_withdrawn: bool


def chain(problem: Problem, style: str = WORKED, reverse_digits: bool = False) -> list[str]:
    """The worked steps; at least one, but for the DIRECT style, which has none.

    Raises:
        ValueError: for an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"chain: style {style!r} is unknown; take one of {', '.join(STYLES)}")
    if style == DIRECT:
        return []
    asked = subtasks(problem) if style == SUBTASKS else []
    if asked:
        return [
            f"<ask>{format_question(each, 0, reverse_digits)}<answer>{format_answer(each, reverse_digits)}"
            for each in asked
        ]
    return list(_reductions(problem, reverse_digits))


def verify_chain(problem: Problem, text: str, style: str = WORKED, reverse_digits: bool = False) -> list[VerifiedStep]:
    """Which steps of a given chain are right; it may be wrong or malformed.

    A step is right if it says what the worked chain says at this place, so what builds on a mistake is wrong as well.

    Args:
        problem: what was asked.
        text: what was written, marks and all; its first thought is judged, to the end if it is never closed.
        style: of the worked chain it is held against.
        reverse_digits: how numbers are written.
    """
    worked = chain(problem, style, reverse_digits)
    thought, closed, _ = text.partition("<think>")[2].partition("</think>")
    pieces = re.split("(<step>|<back>)", thought) if "<think>" in text else []
    found, place = [], 0
    for index in range(0, len(pieces), 2):
        last = index + 1 == len(pieces)
        if last and not closed and not pieces[index]:
            break  # the thought was cut off between two steps
        said, back = pieces[index].partition("<check>")[0], not last and pieces[index + 1] == "<back>"
        found.append(VerifiedStep(said, place < len(worked) and said == worked[place], back))
        place += not back
    return found


def add_self_corrections(steps: list[str], error_fraction: float, rng: np.random.Generator) -> list[tuple[str, bool]]:
    """A thought in which each step is checked, and some are wrong at first.

    The check tells again what comes out; where that differs, the step is taken back and made again.

    Args:
        steps: right ones.
        error_fraction: the probability of a wrong digit in what a step comes to, each time that it is made first.
        rng: is advanced.

    Returns:
        Pieces of text, and of each whether it is a slip, which is not to be learned.
    """
    found = []
    for index, step in enumerate(steps):
        seen = f"<check>{_outcome(step)}"
        if rng.random() < error_fraction:
            found += [(inject_error(step, rng), True), (f"{seen}<back>", False)]
        found.append((f"{step}{seen}" + "<step>" * (index + 1 < len(steps)), False))
    return found


def inject_error(step: str, rng: np.random.Generator) -> str:
    """The step with one wrong digit in what it comes to."""
    start = len(step) - len(_outcome(step))
    place = start + rng.choice([index for index, sign in enumerate(step[start:]) if sign.isdigit()])
    wrong = (int(step[place]) + rng.integers(1, 10)) % 10
    return f"{step[:place]}{wrong}{step[place + 1 :]}"


def _outcome(step: str) -> str:
    return re.split("=<answer>|=", step)[-1]


def _reductions(problem: Problem, reverse_digits: bool) -> Iterator[str]:
    rest = problem
    while isinstance(rest, Problem):
        yield from _operation_steps(find_innermost(rest), reverse_digits)
        rest = reduce_innermost(rest)
        if isinstance(rest, Problem):
            yield f"={format_expression(rest, reverse_digits)}"


def _operation_steps(problem: Problem, reverse_digits: bool) -> Iterator[str]:
    values = problem.values
    if problem.operation == ADD:
        yield from _addition_steps(*values)
    elif problem.operation == SUBTRACT:
        yield from _subtraction_steps(*values)
    elif problem.operation == MULTIPLY:
        yield from _multiplication_steps(*values, reverse_digits)
    elif problem.operation == DIVIDE:
        yield from _division_steps(*values, reverse_digits)
    elif problem.operation == MODULAR:
        total = values[0] + values[1]
        yield from _addition_steps(*values[:2])
        yield f"={format_number(total, reverse_digits)}"
        yield from _subtraction_steps(
            total, values[2], negate=False
        )  # a borrow in the end says that the sum is small enough


def _align_digits(left: int, right: int) -> list[tuple[int, int]]:
    """Digits of both, the least first, as many as the longer has."""
    width = max(len(str(left)), len(str(right)))
    return [(int(a), int(b)) for a, b in zip(f"{left:0{width}}"[::-1], f"{right:0{width}}"[::-1], strict=True)]


def _addition_steps(left: int, right: int) -> Iterator[str]:
    carry = 0
    for a, b in _align_digits(left, right):
        after, digit = divmod(a + b + carry, 10)
        yield f"{a}+{b}+{carry}={digit},{after}"
        carry = after


def _subtraction_steps(left: int, right: int, negate: bool = True) -> Iterator[str]:
    """A borrow that is left in the end says that it is negative: then what came out is taken from 0."""
    borrow, digits = 0, ""
    for a, b in _align_digits(left, right):
        digit = (a - b - borrow) % 10
        after = int(a - b - borrow < 0)
        yield f"{a}-{b}-{borrow}={digit},{after}"
        borrow, digits = after, f"{digit}{digits}"
    if borrow and negate:
        borrow = 0
        for digit in reversed(digits):
            rest = -int(digit) - borrow
            yield f"0-{digit}-{borrow}={rest % 10},{int(rest < 0)}"
            borrow = int(rest < 0)


def _multiplication_steps(left: int, right: int, reverse_digits: bool) -> Iterator[str]:
    total, rows = 0, place_values(right)
    for index, part in enumerate(rows):
        factor, carry = int(str(part)[0]), 0
        for a in map(int, reversed(str(left))):
            after, digit = divmod(a * factor + carry, 10)
            yield f"{a}*{factor}+{carry}={digit},{after}"
            carry = after
        product = left * part
        if len(rows) > 1:
            yield f"={format_number(product, reverse_digits)}"
        if index:
            yield from _addition_steps(total, product)
            if index + 1 < len(rows):
                yield f"={format_number(total + product, reverse_digits)}"
        total += product


def _division_steps(left: int, right: int, reverse_digits: bool) -> Iterator[str]:
    """Long division, the most significant digit first."""
    for held, quotient in long_division(left, right):
        rest = held - quotient * right
        asked = f"{format_number(held, reverse_digits)}/{format_number(right, reverse_digits)}={quotient}"
        if right < 10:
            yield f"{asked},{rest}"
            continue
        yield asked
        if quotient:  # else all of it is left
            yield from _multiplication_steps(right, quotient, reverse_digits)
            yield f"={format_number(quotient * right, reverse_digits)}"
            yield from _subtraction_steps(held, quotient * right)
            yield f"={format_number(rest, reverse_digits)}"
