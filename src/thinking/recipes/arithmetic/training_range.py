"""What a model was taught: which problems, in words, and examples of them."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.problem_sampling import NUM_OPERATIONS, Level, sample_problem
from thinking.environments.arithmetic.problems import DIVIDE, MODULAR, WORDINGS, Problem, format_question
from thinking.environments.arithmetic.sources import parse_source
from thinking.environments.arithmetic.split import MAX_OPERANDS, find_split

_MAX_TRIES = 100
"""Draws of a small-number problem until one is taken that may have been taught; a tenth of most are new."""


class TrainingRange(NamedTuple):
    """The problems of training.

    Attributes:
        small_number_problems: whether all small-number problems are among them.
        levels: of the other problems.
    """

    small_number_problems: bool
    levels: tuple[Level, ...]

    def find_levels(self, operation: str) -> list[Level]:
        """The levels of an operation."""
        return [level for level in self.levels if level.operation == operation]


def parse_training_range(sources: Sequence[str]) -> TrainingRange:
    """What sources of problems teach, as `words` and `add:3`.

    Raises:
        ValueError: for an invalid name.
    """
    parsed = [parse_source(source) for source in sources]
    levels = dict.fromkeys(each[0] for each in parsed if each is not None)
    return TrainingRange(None in parsed, tuple(levels))


def is_in_range(training_range: TrainingRange, problem: Problem) -> bool:
    """Whether training draws such problems: with these operations and numbers of these lengths."""
    return (training_range.small_number_problems and _is_small_number_problem(problem)) or any(
        _has_level(problem, level) for level in training_range.levels
    )


def describe_range(training_range: TrainingRange) -> str:
    """What a model can do, as `add and subtract numbers from 1 to 100; multiply numbers of up to 2 digits`."""
    verbs = defaultdict(list)
    for operation in _list_operations(training_range):
        phrases = _describe_lengths(operation, training_range.find_levels(operation))
        if training_range.small_number_problems and operation in MAX_OPERANDS:
            phrases = [f"numbers from 1 to {MAX_OPERANDS[operation]}", *phrases]
        verbs[", or ".join(phrases)].append(_describe_operation(operation))
    return "; ".join(f"{_join(names, 'and')} {phrase}" for phrase, names in verbs.items())


def draw_examples(training_range: TrainingRange, rng: np.random.Generator) -> Iterator[str]:
    """Questions without end, of each operation in turn, in symbols and in words; new to the model where there are any.

    Args:
        training_range: what the model was taught.
        rng: its state changes.
    """
    for number, operation in enumerate(itertools.cycle(_list_operations(training_range))):
        if training_range.small_number_problems and operation in MAX_OPERANDS:
            problem = _draw_small_number_problem(operation, rng)
        else:
            problem = _draw_problem(max(training_range.find_levels(operation), key=lambda level: level.num_digits), rng)
        yield format_question(problem, number % len(WORDINGS[problem.operation])).removesuffix("=")


def _list_operations(training_range: TrainingRange) -> list[str]:
    words = MAX_OPERANDS if training_range.small_number_problems else ()
    return list(dict.fromkeys([*words, *(level.operation for level in training_range.levels)]))


def _describe_operation(operation: str) -> str:
    if operation in NUM_OPERATIONS:
        return f"work out expressions of {NUM_OPERATIONS[operation]} operations, as (12-5)*4, of"
    return "add modulo" if operation == MODULAR else operation


def _describe_lengths(operation: str, levels: Sequence[Level]) -> list[str]:
    """Phrases for the numbers of an operation."""
    pairs = [
        f"a number of {_count_digits(str(level.num_digits))} and one of {level.num_other_digits}"
        for level in levels
        if level.num_other_digits is not None
    ]
    lengths = sorted({level.num_digits for level in levels if level.num_other_digits is None})
    if not lengths:
        return pairs
    are_all = operation in NUM_OPERATIONS or lengths == list(range(1, lengths[-1] + 1))
    digits = _count_digits(f"up to {lengths[-1]}" if are_all else _join(list(map(str, lengths)), "or"))
    if operation == MODULAR:
        return [f"a number of {digits}"]
    which = "" if are_all else ", the first" if operation == DIVIDE else ", the longer"
    return [f"numbers{which} of {digits}", *pairs]


def _count_digits(number: str) -> str:
    return f"{number} digit" if number.split()[-1] == "1" else f"{number} digits"


def _join(words: Sequence[str], conjunction: str) -> str:
    """As `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def _is_small_number_problem(problem: Problem) -> bool:
    largest = MAX_OPERANDS.get(problem.operation, 0)
    return not problem.is_nested and all(1 <= value <= largest for value in problem.values)


def _has_level(problem: Problem, level: Level) -> bool:
    if level.operation in NUM_OPERATIONS:
        numbers, operations = _list_parts(problem)
        is_long = max(len(str(number)) for number in numbers) > level.num_digits
        return not is_long and len(operations) == NUM_OPERATIONS[level.operation] and MODULAR not in operations
    if problem.is_nested or problem.operation != level.operation:
        return False
    digits = [len(str(value)) for value in problem.values]
    if problem.operation == MODULAR:
        return digits[2] == level.num_digits
    longer, other = digits if problem.operation == DIVIDE else (max(digits), min(digits))
    return longer == level.num_digits and (
        other <= longer if level.num_other_digits is None else other == level.num_other_digits
    )


def _list_parts(problem: Problem) -> tuple[list[int], list[str]]:
    """All numbers and operations of an expression."""
    numbers, operations = [], [problem.operation]
    for operand in problem.operands:
        parts = _list_parts(operand) if isinstance(operand, Problem) else ([operand], [])
        numbers, operations = numbers + parts[0], operations + parts[1]
    return numbers, operations


def _draw_problem(level: Level, rng: np.random.Generator) -> Problem:
    # Problems of one digit are all taught.
    return sample_problem(rng, level, "train" if level.num_digits == 1 else "test")


def _draw_small_number_problem(operation: str, rng: np.random.Generator) -> Problem:
    for _ in range(_MAX_TRIES):
        problem = Problem(operation, tuple(rng.integers(1, MAX_OPERANDS[operation] + 1, 2).tolist()))
        if find_split(problem) == "test":
            break
    return problem  # all products of small-number problems are taught
