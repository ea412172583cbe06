"""Arithmetic problems over integers: questions, answers, and decomposition into sub-problems."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

ADD, SUBTRACT, MULTIPLY, DIVIDE, MODULAR = "add", "subtract", "multiply", "divide", "modular"

WORDINGS = {
    ADD: ("{}+{}=", "Calculate the sum of {} and {}", "What is {} plus {}?", "Add {} and {}"),
    SUBTRACT: ("{}-{}=", "Calculate the difference of {} and {}", "What is {} minus {}?", "Subtract {1} from {0}"),
    MULTIPLY: ("{}*{}=", "Calculate the product of {} and {}", "What is {} times {}?", "Multiply {} by {}"),
    DIVIDE: ("{}/{}=", "Calculate the quotient of {} and {}", "What is {} divided by {}?", "Divide {} by {}"),
    MODULAR: (
        "({}+{})%{}=",
        "Calculate the sum of {} and {} modulo {}",
        "What is {} plus {} modulo {}?",
        "Add {} and {} modulo {}",
    ),
}
"""Templates of questions; the first is in symbols."""

MAX_SIMPLE_DIGITS = 2
"""A product whose right factor has one nonzero digit has no sub-tasks up to this many digits."""

_VALUES = {
    ADD: operator.add,
    SUBTRACT: operator.sub,
    MULTIPLY: operator.mul,
    DIVIDE: operator.floordiv,
    MODULAR: lambda left, right, modulus: (left + right) % modulus,
}


@dataclass(frozen=True)
class Problem:
    """One operation on numbers or on the values of other problems.

    Operands are not negative, though the value may be. Quotients are rounded down; the answer of a division also has
    the remainder, but as an operand only the quotient counts.

    Attributes:
        operation: ADD, SUBTRACT, MULTIPLY, DIVIDE or MODULAR.
        operands: two numbers or problems; three for MODULAR: the sum of two numbers modulo the third.

    Raises:
        ValueError: for an unknown operation, a wrong number of operands, a negative operand, a division by 0, or
            numbers not below their modulus.
    """

    operation: str
    operands: tuple[int | Problem, ...]

    def __post_init__(self) -> None:
        if self.operation not in WORDINGS:
            raise ValueError(f"Problem: operation {self.operation!r} is unknown; take one of {', '.join(WORDINGS)}")
        num_operands = 3 if self.operation == MODULAR else 2
        if len(self.operands) != num_operands:
            raise ValueError(f"Problem: {self.operation} of {len(self.operands)} operands; give {num_operands}")
        values = self.values
        if min(values) < 0:
            raise ValueError(f"Problem: operand {min(values)} of {self.operation} is negative; give 0 or more")
        if self.operation == DIVIDE and values[1] == 0:
            raise ValueError("Problem: divide by 0; give a divisor of 1 or more")
        if self.operation == MODULAR and max(values[:2]) >= values[2]:
            raise ValueError(f"Problem: {max(values[:2])} modulo {values[2]}; give numbers below the modulus")

    @property
    def values(self) -> tuple[int, ...]:
        """The values of the operands."""
        return tuple(each.value if isinstance(each, Problem) else each for each in self.operands)

    @property
    def value(self) -> int:
        """The value, without remainder."""
        return _VALUES[self.operation](*self.values)

    @property
    def is_nested(self) -> bool:
        """Whether an operand is a problem."""
        return any(isinstance(each, Problem) for each in self.operands)


def format_number(value: int, reverse_digits: bool = False) -> str:
    """The digits, after the sign."""
    digits = str(abs(value))
    return "-" * (value < 0) + (digits[::-1] if reverse_digits else digits)


def format_question(problem: Problem, wording: int = 0, reverse_digits: bool = False) -> str:
    """The question as text, by default in symbols.

    Args:
        problem: the problem.
        wording: an index of `WORDINGS[problem.operation]`.
        reverse_digits: whether numbers begin with their least significant digit.
    """
    return WORDINGS[problem.operation][wording].format(
        *(
            f"({format_expression(each, reverse_digits)})"
            if isinstance(each, Problem)
            else format_number(each, reverse_digits)
            for each in problem.operands
        )
    )


def format_expression(problem: Problem, reverse_digits: bool = False) -> str:
    """The question in symbols, without `=`."""
    return format_question(problem, 0, reverse_digits)[:-1]


def format_answer(problem: Problem, reverse_digits: bool = False) -> str:
    """The answer as text: a number, or for a division `quotient r remainder` without spaces."""
    quotient = format_number(problem.value, reverse_digits)
    if problem.operation != DIVIDE:
        return quotient
    left, right = problem.values
    return f"{quotient}r{format_number(left % right, reverse_digits)}"


def find_innermost(problem: Problem) -> Problem:
    """The first operation from the left whose operands are all numbers."""
    return next((find_innermost(each) for each in problem.operands if isinstance(each, Problem)), problem)


def reduce_innermost(problem: Problem) -> Problem | int:
    """The problem with its innermost operation evaluated."""
    for index, each in enumerate(problem.operands):
        if isinstance(each, Problem):
            operands = (*problem.operands[:index], reduce_innermost(each), *problem.operands[index + 1 :])
            return Problem(problem.operation, operands)
    return problem.value


def subtasks(problem: Problem) -> list[Problem]:
    """The sub-tasks of a problem in order, each to be solved in its own context; [] for a simple problem.

    - An expression becomes its operations, innermost first.
    - A modular sum becomes a sum and a difference, which is the answer unless it is negative; then the sum is.
    - A product becomes products of its left factor with the place values of the right one, with sums after all but the
      first. If the right factor has one nonzero digit and a factor is longer than `MAX_SIMPLE_DIGITS`, the left one is
      decomposed likewise; if both have one nonzero digit, the product of these digits remains.
    """
    if problem.is_nested or problem.operation == MODULAR:
        return _operations(problem)
    if problem.operation != MULTIPLY:
        return []
    left, right = problem.values
    if len(place_values(right)) > 1:
        return _products_and_sums([(left, part) for part in place_values(right)])
    if max(len(str(left)), len(str(right))) <= MAX_SIMPLE_DIGITS:
        return []
    if len(place_values(left)) > 1:
        return _products_and_sums([(part, right) for part in place_values(left)])
    return [Problem(MULTIPLY, (int(str(left)[0]), int(str(right)[0])))]


def place_values(value: int) -> list[int]:
    """Place values of the nonzero digits, least significant first: 304 gives 4 and 300; 0 gives 0."""
    return [int(digit) * 10**exponent for exponent, digit in enumerate(reversed(str(value))) if digit != "0"] or [0]


def _operations(problem: Problem) -> list[Problem]:
    """The operations of an expression or a modular sum, in order."""
    if not problem.is_nested:
        left, right, modulus = problem.values
        return [Problem(ADD, (left, right)), Problem(SUBTRACT, (left + right, modulus))]
    operations, rest = [], problem
    while isinstance(rest, Problem):
        operations.append(find_innermost(rest))
        rest = reduce_innermost(rest)
    return operations


def _products_and_sums(products: list[tuple[int, int]]) -> list[Problem]:
    """Products, each but the first followed by its sum with all before."""
    problems, total = [], 0
    for index, (left, right) in enumerate(products):
        problems.append(Problem(MULTIPLY, (left, right)))
        if index:
            problems.append(Problem(ADD, (total, left * right)))
        total += left * right
    return problems


def long_division(left: int, right: int) -> Iterator[tuple[int, int]]:
    """Partial dividend and quotient digit of each place, most significant first."""
    rest = 0
    for digit in str(left):
        dividend = 10 * rest + int(digit)
        quotient, rest = divmod(dividend, right)
        yield dividend, quotient


def division_problems(dividend: int, divisor: int) -> Iterator[Problem]:
    """The problems of one place of a long division; none for a divisor of one digit."""
    if divisor < 10:
        return
    yield Problem(DIVIDE, (dividend, divisor))
    if dividend >= divisor:
        yield Problem(MULTIPLY, (divisor, dividend // divisor))
        yield Problem(SUBTRACT, (dividend, dividend // divisor * divisor))


def intermediate_problems(problem: Problem) -> Iterator[Problem]:
    """All problems that occur in the worked chain: operations, products, sums, and rests of an expression.

    Single steps are left out: two digits and a carry, or one place with a divisor of one digit.
    """
    rest = reduce_innermost(problem) if problem.is_nested else None
    while isinstance(rest, Problem):
        yield rest
        rest = reduce_innermost(rest) if rest.is_nested else None
    if problem.is_nested or problem.operation == MODULAR:
        for each in _operations(problem):
            yield each
            yield from intermediate_problems(each)
    elif problem.operation == MULTIPLY:
        left, right = problem.values
        rows = place_values(right)
        yield from _products_and_sums([(left, part) for part in rows] if len(rows) > 1 else [])
    elif problem.operation == DIVIDE:
        for dividend, _ in long_division(*problem.values):
            yield from division_problems(dividend, problem.values[1])
