"""No training chain works out a held-out problem: the operations are read from the text of chains, digit by digit."""

import collections
import itertools
import re

import numpy as np
import pytest

from thinking.environments.arithmetic.chains import make_chain
from thinking.environments.arithmetic.problem_sampling import THREE_STEPS, TWO_STEPS, Level, sample_problem
from thinking.environments.arithmetic.problems import ADD, DIVIDE, MODULAR, MULTIPLY, SUBTRACT, Problem
from thinking.environments.arithmetic.split import (
    SPLITS,
    find_split,
    is_fact,
    is_held_out,
    is_trainable,
    list_facts,
    small_number_problems,
)

NAMES = {"+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE}
LEVELS = [Level(operation, digits) for operation in (ADD, SUBTRACT, MULTIPLY, DIVIDE, MODULAR) for digits in (2, 3, 5)]
LEVELS += [Level(operation, digits) for operation in (TWO_STEPS, THREE_STEPS) for digits in (1, 2, 3)]


def read_operations(steps):
    """(sign, left, right) of every operation that consecutive digit steps of a chain work out."""
    digit_steps = []
    for step in [*steps, "="]:
        match = re.fullmatch(r"(\d)([-+*])(\d)[-+](\d)=(\d),(\d)", step)
        same = match and digit_steps and match[2] == digit_steps[0][2]
        if digit_steps and (not same or (match[2] == "*" and match[3] != digit_steps[0][3])):
            yield from join_digits(digit_steps)
            digit_steps = []
        if match:
            digit_steps.append(match)
        elif match := re.fullmatch(r"(\d+)/(\d+)=.*", step):
            yield "/", int(match[1]), int(match[2])
        for left, sign, right in re.findall(r"(?<![\d)])(\d+)([-+*/])(\d+)(?![\d(])", step if step[0] == "=" else ""):
            yield sign, int(left), int(right)


def join_digits(digit_steps):
    sign, half = digit_steps[0][2], len(digit_steps) // 2
    lefts, rights, results = ([step[group] for step in digit_steps] for group in (1, 3, 5))
    if sign == "-" and len(lefts) == 2 * half and lefts[half:] == ["0"] * half and rights[half:] == results[:half]:
        lefts, rights = lefts[:half], rights[:half]  # the second half negates the first half's result
    if sign == "*":
        rights = rights[:1]  # one factor of one digit
    yield sign, int("".join(reversed(lefts))), int("".join(reversed(rights)))


def key(sign, left, right):
    """Equal for operations with the same digit steps."""
    left, right = str(left), str(right)
    if sign == "*":
        left, right = left.rstrip("0") or "0", right.rstrip("0") or "0"
    while sign in "+-" and left.endswith("0") and right.endswith("0") and (left, right) != ("0", "0"):
        left, right = left[:-1] or "0", right[:-1] or "0"
    return (sign, *(sorted([left, right]) if sign != "/" else [left, right]))


def test_operations_are_read_from_chains():
    read = set(read_operations(make_chain(Problem(MULTIPLY, (36, 52)))))
    assert read == {("*", 36, 2), ("*", 36, 5), ("+", 72, 1800)}
    assert set(read_operations(make_chain(Problem(SUBTRACT, (3, 18))))) == {("-", 3, 18)}
    assert ("/", 57, 12) in set(read_operations(make_chain(Problem(DIVIDE, (574, 12)))))


@pytest.mark.parametrize("level", LEVELS)
def test_no_training_chain_works_out_a_held_out_problem(level):
    rng = np.random.default_rng(0)
    for _ in range(60):
        problem = sample_problem(rng, level)
        for sign, left, right in read_operations(make_chain(problem)):
            if sign != "/" or right:
                assert not is_held_out(Problem(NAMES[sign], (left, right))), (problem, sign, left, right)


def test_no_chain_of_a_training_small_number_problem_works_out_a_held_out_one():
    held_out = {
        key("+-*/"[[ADD, SUBTRACT, MULTIPLY, DIVIDE].index(each.operation)], *each.values)
        for each in small_number_problems()
        if is_held_out(each)
    }
    assert len(held_out) > 2000
    for problem in itertools.islice(filter(is_trainable, small_number_problems()), None, None, 3):
        assert held_out.isdisjoint(key(*operation) for operation in read_operations(make_chain(problem)))


def test_problems_with_the_same_chain_share_a_side():
    rng = np.random.default_rng(0)
    for left, right in rng.integers(1, 1000, (200, 2)).tolist():
        same = [(MULTIPLY, left * 10, right), (MULTIPLY, left, right * 100), (MULTIPLY, right, left)]
        assert len({is_held_out(Problem(operation, pair)) for operation, *pair in same}) == 1
        for operation in (ADD, SUBTRACT):
            pairs = [(left, right), (right, left), (10 * left, 10 * right)]
            assert len({is_held_out(Problem(operation, pair)) for pair in pairs}) == 1


def test_facts_are_the_problems_whose_chain_is_one_digit_step():
    facts = list_facts()
    assert len(facts) == len(set(facts)) == 3 * 100 + 10 * sum(range(1, 10))
    assert all(is_fact(each) and not is_held_out(each) for each in facts)
    for problem in facts:
        first, second = problem.values
        if problem.operation == DIVIDE:  # steps before the last one have quotient 0
            assert all(step.split("=")[1][0] == "0" for step in make_chain(problem)[:-1])
            assert make_chain(problem)[-1].startswith(f"{first}/{second}={first // second},")
        elif problem.operation != SUBTRACT or first >= second:
            assert len(make_chain(problem)) == 1
    assert not is_fact(Problem(ADD, (10, 7)))
    assert not is_fact(Problem(DIVIDE, (10, 1)))


def test_half_of_the_held_out_problems_are_for_development():
    splits = collections.Counter(find_split(each) for each in small_number_problems())
    assert abs(splits["development"] / 20_200 - 0.1) < 0.01
    assert abs(splits["test"] / 20_200 - 0.1) < 0.01
    for split in SPLITS:
        assert find_split(sample_problem(np.random.default_rng(0), Level(MULTIPLY, 3), split)) == split
