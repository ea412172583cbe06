"""A fifth is held out, and no generator ever lets it through."""

import collections
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments.arithmetic.chains import CHAIN_OF_THOUGHT, SUBTASKS, chain
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
from thinking.environments.arithmetic.split import is_held_out, is_trainable, shown_problems, word_problems

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
SIGNS = {"+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE}
LEVELS = [Level(operation, digits) for operation in WORDINGS for digits in (1, 2, 3, 7, 25)]
LEVELS += [Level(operation, digits) for operation in (TWO_STEPS, THREE_STEPS) for digits in (1, 2, 3)]


def test_a_fifth_of_the_word_problems_is_held_out():
    every = list(word_problems())
    assert len(set(every)) == len(every) == 20_200
    counts = collections.Counter(each.operation for each in every if is_held_out(each))
    assert counts == {ADD: 1973, SUBTRACT: 2003, DIVIDE: 4}


def test_word_problems_of_the_side_of_training_meet_nothing_that_is_held_out():
    assert all(is_trainable(each) != is_held_out(each) for each in word_problems())
    assert all(each.values[1] == 10 for each in word_problems() if list(intermediate_problems(each)))


@given(st.sampled_from([ADD, MULTIPLY]), st.integers(0, 10**30), st.integers(0, 10**30), st.integers(0, 99))
@QUICK
def test_commuted_pairs_share_a_side(operation, left, right, further):
    pair = Problem(operation, (left, right)), Problem(operation, (right, left))
    assert is_held_out(pair[0]) == is_held_out(pair[1])
    nested = [Problem(SUBTRACT, (each, further)) for each in pair]
    assert is_held_out(nested[0]) == is_held_out(nested[1])
    modulus = max(left, right) + 1
    modular = [Problem(MODULAR, (*each.values, modulus)) for each in pair]
    assert is_held_out(modular[0]) == is_held_out(modular[1])


def test_quotients_have_a_side_for_each_order():
    pairs = [(left, right) for left in range(1, 30) for right in range(1, left)]
    assert any(is_held_out(Problem(DIVIDE, pair)) != is_held_out(Problem(DIVIDE, pair[::-1])) for pair in pairs)


def folded(text):
    """Every operation on plain numbers that a fully bracketed text holds, and those that it comes to."""
    found = []
    while inner := re.search(r"\((\d+)([-+*/])(\d+)\)|^(\d+)([-+*/])(\d+)$", text):
        left, sign, right = [each for each in inner.groups() if each]
        found.append(Problem(SIGNS[sign], (int(left), int(right))))
        text = text[: inner.start()] + str(found[-1].value) + text[inner.end() :]
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_that_is_held_out_is_ever_trained_on_and_nothing_else_is_tested(level):
    for seed in range(4 if level.num_digits > 7 else 12):
        rng = np.random.default_rng(seed)
        problem = sample_problem(rng, level)
        assert not is_held_out(problem)
        for step in chain(problem):
            # What the chain's own text asks is read anew.
            if re.search(r"^=.*\d[-+*/]", step):
                assert not any(map(is_held_out, folded(step[1:])))
            if (match := re.fullmatch(r"(\d+)/(\d+)=.*", step)) and int(match[2]) >= 10:
                assert not is_held_out(Problem(DIVIDE, (int(match[1]), int(match[2]))))
        assert not any(map(is_held_out, intermediate_problems(problem)))
        if level.num_digits > 1 or level.operation in (MODULAR, *NUM_OPERATIONS):
            assert is_held_out(sample_problem(rng, level, split="test"))


@pytest.mark.parametrize("level", LEVELS)
def test_no_row_of_subtasks_shows_what_is_held_out(level):
    for seed in range(4 if level.num_digits > 7 else 12):
        problem = sample_problem(np.random.default_rng(seed), level, style=SUBTASKS)
        assert not is_held_out(problem)
        steps = chain(problem, SUBTASKS)
        for step in steps:
            if asked := re.fullmatch(r"<ask>(.*)=<answer>.*", step):
                assert not any(map(is_held_out, folded(asked[1])))
        if not steps[0].startswith("<ask>"):
            assert not any(map(is_held_out, intermediate_problems(problem)))


def test_what_a_long_product_falls_into_is_drawn_for_subtasks_too():
    rng = np.random.default_rng(0)
    drawn = [sample_problem(rng, Level(MULTIPLY, 4), style=SUBTASKS) for _ in range(60)]
    kinds = collections.Counter(tuple(len(str(each).rstrip("0")) > 1 for each in problem.values) for problem in drawn)
    assert min(kinds[True, True], kinds[True, False], kinds[False, False]) >= 10
    sums = [sample_problem(rng, Level(ADD, 8), style=SUBTASKS).values for _ in range(60)]
    assert sum(max(values) % 1000 == 0 for values in sums) >= 10
    assert sum(max(values) % 10 != 0 for values in sums) >= 10


def test_a_row_of_subtasks_shows_them_but_not_what_they_take():
    long = Problem(MULTIPLY, (9876, 40))
    assert shown_problems(long, SUBTASKS) == subtasks(long)
    assert shown_problems(long) == list(intermediate_problems(long)) == []
    short = Problem(MULTIPLY, (12, 30))
    assert shown_problems(short, SUBTASKS) == shown_problems(short) == []


@pytest.mark.parametrize("style", [CHAIN_OF_THOUGHT, SUBTASKS])
@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_as_long_as_they_say(level, style):
    rng = np.random.default_rng(0)
    for _ in range(8):
        found = sample_problem(rng, level, style=style)
        lengths = [len(number) for number in re.findall(r"\d+", " ".join(leaves(found)))]
        if level.operation in NUM_OPERATIONS:
            assert len(lengths) == NUM_OPERATIONS[level.operation] + 1
            assert max(lengths) <= level.num_digits
        else:
            assert found.operation == level.operation
            assert max(lengths) == level.num_digits


def leaves(problem):
    for each in problem.operands:
        yield from leaves(each) if isinstance(each, Problem) else [str(each)]


@pytest.mark.parametrize(
    ("level", "complaint"),
    [(Level("root", 2), "'root' is unknown"), (Level(ADD, 0), "0 digits are out of range")],
)
def test_bad_levels_are_named(level, complaint):
    with pytest.raises(ValueError, match=complaint):
        sample_problem(np.random.default_rng(0), level)
