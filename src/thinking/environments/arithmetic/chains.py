"""Worked chains of thought for arithmetic problems, and their verification.

A chain is a list of steps. Each step is a small computation on the step before it or on the question:

- `7+8+0=5,1` two digits and a carry: digit of the sum, and carry
- `3-8-0=5,1` two digits and a borrow: digit of the difference, and borrow
- `7*8+3=9,5` two digits and a carry: digit of the product, and carry
- `57/8=7,1` remainder so far, and a divisor of one digit: digit of the quotient, and remainder
- `57/12=4` the same for a longer divisor: digit of the quotient; a product and a difference follow
- `=456` the result of the previous steps; `=7*5` the rest of an expression with that result inserted
- `<ask>12*4=<answer>48` a sub-task, which can be solved in a context of its own
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

DIRECT, CHAIN_OF_THOUGHT, SUBTASKS, SELF_CORRECTION = "direct", "chain_of_thought", "subtasks", "self_correction"
STYLES = (DIRECT, CHAIN_OF_THOUGHT, SUBTASKS, SELF_CORRECTION)
"""Ways to answer: at once; step by step; by sub-tasks if any; step by step with self-corrected errors."""


class VerifiedStep(NamedTuple):
    """A verified step of a chain.

    Attributes:
        text: the step without its check.
        is_correct: whether the worked chain has the same step at this index.
        is_retracted: whether the chain itself retracts the step; the next one then has the same index.
    """

    text: str
    is_correct: bool
    is_retracted: bool


def make_chain(problem: Problem, style: str = CHAIN_OF_THOUGHT, reverse_digits: bool = False) -> list[str]:
    """The worked steps of a problem; none for the DIRECT style, otherwise at least one.

    Raises:
        ValueError: for an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"make_chain: style {style!r} is unknown; take one of {', '.join(STYLES)}")
    if style == DIRECT:
        return []
    sub_problems = subtasks(problem) if style == SUBTASKS else []
    if sub_problems:
        return [
            f"<ask>{format_question(each, 0, reverse_digits)}<answer>{format_answer(each, reverse_digits)}"
            for each in sub_problems
        ]
    return list(_reductions(problem, reverse_digits))


def verify_chain(
    problem: Problem, text: str, style: str = CHAIN_OF_THOUGHT, reverse_digits: bool = False
) -> list[VerifiedStep]:
    """Verify the steps of a chain, which may be wrong or malformed.

    A step is correct if the worked chain has it at this index, so steps that build on a mistake are wrong too.

    Args:
        problem: the question.
        text: the completion with its special tokens; its first thought is verified, to the end if it is never closed.
        style: of the worked chain.
        reverse_digits: whether numbers begin with their least significant digit.
    """
    worked = make_chain(problem, style, reverse_digits)
    thought, closed, _ = text.partition("<think>")[2].partition("</think>")
    spans = re.split("(<step>|<back>)", thought) if "<think>" in text else []
    verified, step_index = [], 0
    for index in range(0, len(spans), 2):
        last = index + 1 == len(spans)
        if last and not closed and not spans[index]:
            break  # the thought was truncated between two steps
        step, is_retracted = spans[index].partition("<check>")[0], not last and spans[index + 1] == "<back>"
        verified.append(VerifiedStep(step, step_index < len(worked) and step == worked[step_index], is_retracted))
        step_index += not is_retracted
    return verified


def add_self_corrections(steps: list[str], error_fraction: float, rng: np.random.Generator) -> list[tuple[str, bool]]:
    """Add a check to each step, and injected errors that are retracted and corrected.

    The check repeats the step's result; where it differs, the step is retracted and repeated.

    Args:
        steps: correct steps.
        error_fraction: probability of a wrong digit in a step's result.
        rng: its state changes.

    Returns:
        Spans of text, each with whether it is an injected error, which has no loss.
    """
    spans = []
    for index, step in enumerate(steps):
        check = f"<check>{_result(step)}"
        if rng.random() < error_fraction:
            spans += [(inject_error(step, rng), True), (f"{check}<back>", False)]
        spans.append((f"{step}{check}" + "<step>" * (index + 1 < len(steps)), False))
    return spans


def inject_error(step: str, rng: np.random.Generator) -> str:
    """The step with one wrong digit in its result."""
    start = len(step) - len(_result(step))
    position = start + rng.choice([index for index, character in enumerate(step[start:]) if character.isdigit()])
    wrong = (int(step[position]) + rng.integers(1, 10)) % 10
    return f"{step[:position]}{wrong}{step[position + 1 :]}"


def _result(step: str) -> str:
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
        )  # a final borrow means that the sum is below the modulus


def _align_digits(left: int, right: int) -> list[tuple[int, int]]:
    """Digit pairs, least significant first, padded to the longer number."""
    width = max(len(str(left)), len(str(right)))
    return [(int(a), int(b)) for a, b in zip(f"{left:0{width}}"[::-1], f"{right:0{width}}"[::-1], strict=True)]


def _addition_steps(left: int, right: int) -> Iterator[str]:
    carry = 0
    for a, b in _align_digits(left, right):
        after, digit = divmod(a + b + carry, 10)
        yield f"{a}+{b}+{carry}={digit},{after}"
        carry = after


def _subtraction_steps(left: int, right: int, negate: bool = True) -> Iterator[str]:
    """Steps of a difference; a final borrow means a negative result, which is then negated."""
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
    for dividend, quotient in long_division(left, right):
        rest = dividend - quotient * right
        step = f"{format_number(dividend, reverse_digits)}/{format_number(right, reverse_digits)}={quotient}"
        if right < 10:
            yield f"{step},{rest}"
            continue
        yield step
        if quotient:  # otherwise the dividend remains
            yield from _multiplication_steps(right, quotient, reverse_digits)
            yield f"={format_number(quotient * right, reverse_digits)}"
            yield from _subtraction_steps(dividend, quotient * right)
            yield f"={format_number(rest, reverse_digits)}"
