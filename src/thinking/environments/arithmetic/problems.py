"""Problems of whole numbers: what they ask, in words and symbols, what the answer is, and what they fall into."""

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
"""How each operation is asked for; the first is in symbols."""

MAX_SIMPLE_DIGITS = 2
"""Digits of the longest factors whose product has no sub-tasks, if the right one is a multiple of a power of ten."""

_VALUES = {
    ADD: operator.add,
    SUBTRACT: operator.sub,
    MULTIPLY: operator.mul,
    DIVIDE: operator.floordiv,
    MODULAR: lambda left, right, modulus: (left + right) % modulus,
}


@dataclass(frozen=True)
class Problem:
    """One operation, on numbers or on what other problems come to.

    No operand is negative, though the answer may be. A quotient is rounded down; where a problem divides, its answer
    also tells the remainder, and where an operand of another problem divides, its quotient alone counts.

    Attributes:
        operation: ADD, SUBTRACT, MULTIPLY, DIVIDE or MODULAR.
        operands: numbers or problems; two, or three for MODULAR: the sum of two numbers modulo the third.

    Raises:
        ValueError: for an unknown operation, too few or too many operands, a negative one, a division by 0, or
            numbers that reach their modulus.
    """

    operation: str
    operands: tuple[int | Problem, ...]

    def __post_init__(self) -> None:
        if self.operation not in WORDINGS:
            raise ValueError(f"Problem: operation {self.operation!r} is unknown; take one of {', '.join(WORDINGS)}")
        wanted = 3 if self.operation == MODULAR else 2
        if len(self.operands) != wanted:
            raise ValueError(f"Problem: {self.operation} of {len(self.operands)} operands; give {wanted}")
        values = self.values
        if min(values) < 0:
            raise ValueError(f"Problem: operand {min(values)} of {self.operation} is negative; give 0 or more")
        if self.operation == DIVIDE and values[1] == 0:
            raise ValueError("Problem: divide by 0; give a divisor of 1 or more")
        if self.operation == MODULAR and max(values[:2]) >= values[2]:
            raise ValueError(f"Problem: {max(values[:2])} modulo {values[2]}; give numbers below the modulus")

    @property
    def values(self) -> tuple[int, ...]:
        """What the operands come to."""
        return tuple(each.value if isinstance(each, Problem) else each for each in self.operands)

    @property
    def value(self) -> int:
        """What it comes to, without a remainder."""
        return _VALUES[self.operation](*self.values)

    @property
    def is_nested(self) -> bool:
        """Whether an operand is a problem itself."""
        return any(isinstance(each, Problem) for each in self.operands)


def format_number(value: int, reverse_digits: bool = False) -> str:
    """Its digits, the sign in front."""
    digits = str(abs(value))
    return "-" * (value < 0) + (digits[::-1] if reverse_digits else digits)


def format_question(problem: Problem, wording: int = 0, reverse_digits: bool = False) -> str:
    """The text that asks, by default in symbols.

    Args:
        problem: what is asked.
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
    """The symbols that ask, without the sign of equality."""
    return format_question(problem, 0, reverse_digits)[:-1]


def format_answer(problem: Problem, reverse_digits: bool = False) -> str:
    """The text that answers: a number, of a division `quotient r remainder` without spaces."""
    said = format_number(problem.value, reverse_digits)
    if problem.operation != DIVIDE:
        return said
    left, right = problem.values
    return f"{said}r{format_number(left % right, reverse_digits)}"


def find_innermost(problem: Problem) -> Problem:
    """The first operation, from the left, of which all operands are numbers."""
    return next((find_innermost(each) for each in problem.operands if isinstance(each, Problem)), problem)


def reduce_innermost(problem: Problem) -> Problem | int:
    """The same with its innermost operation carried out."""
    for index, each in enumerate(problem.operands):
        if isinstance(each, Problem):
            operands = (*problem.operands[:index], reduce_innermost(each), *problem.operands[index + 1 :])
            return Problem(problem.operation, operands)
    return problem.value


def subtasks(problem: Problem) -> list[Problem]:
    """The problems to solve one after another, each in a context of its own; none where it is simple.

    An expression falls into its operations, the innermost first; a modular sum into a sum and a difference, which is
    the answer unless it is negative: then the sum is. A product falls into those of its left factor with the multiples
    of powers of ten that its right one is made of, each but the first followed by a sum. Where the right one is such a
    multiple itself, and a factor is longer than `MAX_SIMPLE_DIGITS`, the left one is taken apart in the same way; where
    both are, what is left is the product of two digits, behind which come the zeros. So whatever products of products
    are asked, only short ones are ever worked out.
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
    """The parts of a number that its digits stand for, the least first: 304 is 4 and 300; 0 is 0."""
    return [int(digit) * 10**place for place, digit in enumerate(reversed(str(value))) if digit != "0"] or [0]


def _operations(problem: Problem) -> list[Problem]:
    """What an expression or a modular sum is carried out by, one after another."""
    if not problem.is_nested:
        left, right, modulus = problem.values
        return [Problem(ADD, (left, right)), Problem(SUBTRACT, (left + right, modulus))]
    found, rest = [], problem
    while isinstance(rest, Problem):
        found.append(find_innermost(rest))
        rest = reduce_innermost(rest)
    return found


def _products_and_sums(products: list[tuple[int, int]]) -> list[Problem]:
    """Products, each but the first followed by its sum with all before."""
    found, total = [], 0
    for index, (left, right) in enumerate(products):
        found.append(Problem(MULTIPLY, (left, right)))
        if index:
            found.append(Problem(ADD, (total, left * right)))
        total += left * right
    return found


def long_division(left: int, right: int) -> Iterator[tuple[int, int]]:
    """Place by place, the most significant first: what is left with the next digit behind it, and how often it fits."""
    rest = 0
    for digit in str(left):
        held = 10 * rest + int(digit)
        quotient, rest = divmod(held, right)
        yield held, quotient


def division_problems(dividend: int, divisor: int) -> Iterator[Problem]:
    """The problems that one place of a long division is made of; none for a divisor of one digit."""
    if divisor < 10:
        return
    yield Problem(DIVIDE, (dividend, divisor))
    if dividend >= divisor:
        yield Problem(MULTIPLY, (divisor, dividend // divisor))
        yield Problem(SUBTRACT, (dividend, dividend // divisor * divisor))


def intermediate_problems(problem: Problem) -> Iterator[Problem]:
    """Whatever problem shows up where it is worked out: operations, products and sums, what is left of an expression.

    Not those that are a step by themselves: of two digits and a carry, or of one place and a divisor of one digit.
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
        for held, _ in long_division(*problem.values):
            yield from division_problems(held, problem.values[1])
