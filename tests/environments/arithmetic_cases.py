"""Strategies for problems, and an independent calculator, for the tests of arithmetic."""

import re
from fractions import Fraction

from hypothesis import assume, settings
from hypothesis import strategies as st

from thinking.environments.arithmetic.problems import ADD, DIVIDE, MODULAR, MULTIPLY, SUBTRACT, WORDINGS, Problem

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
numbers = st.integers(1, 30).flatmap(lambda digits: st.integers(0, 10**digits - 1))
short_numbers = st.integers(0, 99)


def evaluate_text(text):
    """The value of a fully bracketed expression; brackets are evaluated from the inside, without a syntax tree."""
    while not re.fullmatch(r"-?\d+", text):
        inner = re.search(r"\((\d+[-+*/%]\d+)\)|^(\d+[-+*/%]\d+)$", text)
        left, sign, right = re.fullmatch(r"(\d+)([-+*/%])(\d+)", inner[1] or inner[2]).groups()
        left, right = Fraction(left), Fraction(right)
        value = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": lambda a, b: Fraction((a / b).__floor__()),
            "%": lambda a, b: a - b * (a / b).__floor__(),
        }[sign](left, right)
        text = text[: inner.start()] + str(value) + text[inner.end() :]
    return int(text)


def make_problem(operation, left, right):
    """A valid problem: its divisor is not 0, and about half of its sums reach the modulus."""
    if operation == DIVIDE:
        return Problem(DIVIDE, (left, right + 1))
    if operation == MODULAR:
        return Problem(MODULAR, (left, right, max(left, right) + 1 + (left % 2) * min(left, right)))
    return Problem(operation, (left, right))


@st.composite
def expressions(draw):
    """Problems of two or three operations."""
    problem = draw(short_numbers)
    for _ in range(draw(st.integers(2, 3))):
        operands = [problem, draw(short_numbers)]
        if draw(st.booleans()):
            operands.reverse()
        values = [operand.value if isinstance(operand, Problem) else operand for operand in operands]
        operation = draw(st.sampled_from([ADD, SUBTRACT, MULTIPLY, DIVIDE]))
        assume(min(values) >= 0 and (operation != DIVIDE or values[1]))
        problem = Problem(operation, tuple(operands))
    return problem


problems = st.builds(make_problem, st.sampled_from(list(WORDINGS)), numbers, numbers) | expressions()
