"""The split: a fifth is held out, and no training problem contains a held-out one."""

import collections
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT, SUBTASKS, make_chain
from thinking.environments.arithmetic.problem_sampling import (
    NUM_OPERATIONS,
    THREE_STEPS,
    TWO_STEPS,
    Level,
    sample_problem,
)
from thinking.environments.arithmetic.problems import (
    ADD,
    DIVIDE,
    MODULAR,
    MULTIPLY,
    SUBTRACT,
    WORDINGS,
    Problem,
    intermediate_problems,
    subtasks,
)
from thinking.environments.arithmetic.split import (
    is_held_out,
    is_trainable,
    list_solution_problems,
    small_number_problems,
)

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
SIGNS = {"+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE}
LEVELS = [Level(operation, digits) for operation in WORDINGS for digits in (1, 2, 3, 7, 25)]
LEVELS += [Level(operation, digits) for operation in (TWO_STEPS, THREE_STEPS) for digits in (1, 2, 3)]


def test_a_fifth_of_the_small_number_problems_is_held_out():
    every = list(small_number_problems())
    assert len(set(every)) == len(every) == 20_200
    counts = collections.Counter(each.operation for each in every if is_held_out(each))
    assert counts == {ADD: 1973, SUBTRACT: 2003, DIVIDE: 4}


def test_training_small_number_problems_have_no_held_out_intermediate_problem():
    assert all(is_trainable(each) != is_held_out(each) for each in small_number_problems())
    assert all(each.values[1] == 10 for each in small_number_problems() if list(intermediate_problems(each)))


@given(st.sampled_from([ADD, MULTIPLY]), st.integers(0, 10**30), st.integers(0, 10**30), st.integers(0, 99))
@QUICK
def test_commuted_problems_are_in_the_same_split(operation, left, right, subtrahend):
    pair = Problem(operation, (left, right)), Problem(operation, (right, left))
    assert is_held_out(pair[0]) == is_held_out(pair[1])
    nested = [Problem(SUBTRACT, (each, subtrahend)) for each in pair]
    assert is_held_out(nested[0]) == is_held_out(nested[1])
    modulus = max(left, right) + 1
    modular = [Problem(MODULAR, (*each.values, modulus)) for each in pair]
    assert is_held_out(modular[0]) == is_held_out(modular[1])


def test_quotients_have_a_side_for_each_order():
    pairs = [(left, right) for left in range(1, 30) for right in range(1, left)]
    assert any(is_held_out(Problem(DIVIDE, pair)) != is_held_out(Problem(DIVIDE, pair[::-1])) for pair in pairs)


def list_operations(text):
    """All operations on two numbers in the evaluation of a fully bracketed text."""
    problems = []
    while inner := re.search(r"\((\d+)([-+*/])(\d+)\)|^(\d+)([-+*/])(\d+)$", text):
        left, sign, right = [each for each in inner.groups() if each]
        problems.append(Problem(SIGNS[sign], (int(left), int(right))))
        text = text[: inner.start()] + str(problems[-1].value) + text[inner.end() :]
    return problems


@pytest.mark.parametrize("level", LEVELS)
def test_training_problems_contain_no_held_out_problem(level):
    for seed in range(4 if level.num_digits > 7 else 12):
        rng = np.random.default_rng(seed)
        problem = sample_problem(rng, level)
        assert not is_held_out(problem)
        for step in make_chain(problem):
            # The problems are parsed from the text of the chain.
            if re.search(r"^=.*\d[-+*/]", step):
                assert not any(map(is_held_out, list_operations(step[1:])))
            if (match := re.fullmatch(r"(\d+)/(\d+)=.*", step)) and int(match[2]) >= 10:
                assert not is_held_out(Problem(DIVIDE, (int(match[1]), int(match[2]))))
        assert not any(map(is_held_out, intermediate_problems(problem)))
        if level.num_digits > 1 or level.operation in (MODULAR, *NUM_OPERATIONS):
            assert is_held_out(sample_problem(rng, level, split="test"))


@pytest.mark.parametrize("level", LEVELS)
def test_subtasks_contain_no_held_out_problem(level):
    for seed in range(4 if level.num_digits > 7 else 12):
        problem = sample_problem(np.random.default_rng(seed), level, style=SUBTASKS)
        assert not is_held_out(problem)
        steps = make_chain(problem, SUBTASKS)
        for step in steps:
            if match := re.fullmatch(r"<ask>(.*)=<answer>.*", step):
                assert not any(map(is_held_out, list_operations(match[1])))
        if not steps[0].startswith("<ask>"):
            assert not any(map(is_held_out, intermediate_problems(problem)))


def test_sampling_for_subtasks_includes_round_factors():
    rng = np.random.default_rng(0)
    products = [sample_problem(rng, Level(MULTIPLY, 4), style=SUBTASKS) for _ in range(60)]
    counts = collections.Counter(
        tuple(len(str(factor).rstrip("0")) > 1 for factor in problem.values) for problem in products
    )
    assert min(counts[True, True], counts[True, False], counts[False, False]) >= 10
    sums = [sample_problem(rng, Level(ADD, 8), style=SUBTASKS).values for _ in range(60)]
    assert sum(max(values) % 1000 == 0 for values in sums) >= 10
    assert sum(max(values) % 10 != 0 for values in sums) >= 10


def test_solution_problems_are_subtasks_or_intermediate_problems():
    long_product = Problem(MULTIPLY, (9876, 40))
    assert list_solution_problems(long_product, SUBTASKS) == subtasks(long_product)
    assert list_solution_problems(long_product) == list(intermediate_problems(long_product)) == []
    short_product = Problem(MULTIPLY, (12, 30))
    assert list_solution_problems(short_product, SUBTASKS) == list_solution_problems(short_product) == []


@pytest.mark.parametrize("style", [CHAIN_OF_THOUGHT, SUBTASKS])
@pytest.mark.parametrize("level", LEVELS)
def test_levels_have_their_number_of_digits_and_operations(level, style):
    rng = np.random.default_rng(0)
    for _ in range(8):
        problem = sample_problem(rng, level, style=style)
        lengths = [len(number) for number in re.findall(r"\d+", " ".join(list_numbers(problem)))]
        if level.operation in NUM_OPERATIONS:
            assert len(lengths) == NUM_OPERATIONS[level.operation] + 1
            assert max(lengths) <= level.num_digits
        else:
            assert problem.operation == level.operation
            assert max(lengths) == level.num_digits


def list_numbers(problem):
    for operand in problem.operands:
        yield from list_numbers(operand) if isinstance(operand, Problem) else [str(operand)]


@pytest.mark.parametrize(
    ("level", "message"),
    [(Level("root", 2), "'root' is unknown"), (Level(ADD, 0), "0 digits are out of range")],
)
def test_invalid_levels_are_rejected(level, message):
    with pytest.raises(ValueError, match=message):
        sample_problem(np.random.default_rng(0), level)
