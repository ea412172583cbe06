"""Any problem, and a calculator of symbols, for the tests of arithmetic."""

import re
from fractions import Fraction

from hypothesis import assume, settings
from hypothesis import strategies as st

from thinking.environments.arithmetic.problems import ADD, DIVIDE, MODULAR, MULTIPLY, SUBTRACT, WORDINGS, Problem

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
numbers = st.integers(1, 30).flatmap(lambda digits: st.integers(0, 10**digits - 1))
short = st.integers(0, 99)


def calculated(text):
    """What fully bracketed symbols come to: brackets are folded from the inside, without a syntax tree."""
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


def problem(operation, left, right):
    """With a divisor that is not 0, and a modulus that half of the sums reach."""
    if operation == DIVIDE:
        return Problem(DIVIDE, (left, right + 1))
    if operation == MODULAR:
        return Problem(MODULAR, (left, right, max(left, right) + 1 + (left % 2) * min(left, right)))
    return Problem(operation, (left, right))


@st.composite
def expressions(draw):
    """Two or three operations."""
    found = draw(short)
    for _ in range(draw(st.integers(2, 3))):
        operands = [found, draw(short)]
        if draw(st.booleans()):
            operands.reverse()
        values = [each.value if isinstance(each, Problem) else each for each in operands]
        operation = draw(st.sampled_from([ADD, SUBTRACT, MULTIPLY, DIVIDE]))
        assume(min(values) >= 0 and (operation != DIVIDE or values[1]))
        found = Problem(operation, tuple(operands))
    return found


problems = st.builds(problem, st.sampled_from(list(WORDINGS)), numbers, numbers) | expressions()
