"""What a model was taught: in words, as a test of a problem, and in examples."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK

from thinking.environments.arithmetic.parsing import parse_problem
from thinking.environments.arithmetic.problem_sampling import NUM_OPERATIONS
from thinking.environments.arithmetic.problems import WORDINGS
from thinking.environments.arithmetic.sources import sample_problems
from thinking.environments.arithmetic.split import MAX_OPERANDS, find_split, is_fact
from thinking.recipes.arithmetic.presets import PRESETS
from thinking.recipes.arithmetic.training_range import describe_range, draw_examples, is_in_range, parse_training_range

sources = st.builds(
    lambda operation, longer, other: f"{operation}:{longer}" + (f"x{min(longer, other)}" if other else ""),
    st.sampled_from([*WORDINGS, *NUM_OPERATIONS]),
    st.integers(2, 5),
    st.none() | st.integers(1, 5),
).filter(lambda source: "x" not in source or source.split(":")[0] in ("add", "subtract", "multiply", "divide"))


@given(sources, st.integers(0, 100))
@QUICK
def test_what_training_draws_is_taught(source, seed):
    training_range = parse_training_range([source])
    for problem in sample_problems(source, 4, seed) + sample_problems(source, 4, seed, "test"):
        assert is_in_range(training_range, problem)


def test_small_number_problems_are_taught():
    training_range = parse_training_range(["words"])
    assert all(is_in_range(training_range, problem) for problem in sample_problems("words", 0, 0, "test"))


@pytest.mark.parametrize(
    ("names", "problem", "expected"),
    [
        ("add:3", "123+45", True),
        ("add:3", "12+45", False),
        ("add:3", "1234+5", False),
        ("add:3", "123-45", False),
        ("add:2 add:3", "12+45", True),
        ("multiply:4x2", "12*3456", True),
        ("multiply:4x2", "123*3456", False),
        ("divide:3", "123/45", True),
        ("divide:2", "12/345", False),
        ("words", "100+1", True),
        ("words", "101+1", False),
        ("words", "0+1", False),
        ("words", "11*2", False),
        ("words", "(12-5)*4", False),
        ("two_steps:2", "(12-5)*4", True),
        ("two_steps:2", "(12-5)*4+1", False),
        ("two_steps:1", "(12-5)*4", False),
        ("modular:2", "(7+8)%12", True),
        ("modular:2", "7+8", False),
    ],
)
def test_other_problems_are_out_of_range(names, problem, expected):
    assert is_in_range(parse_training_range(names.split()), parse_problem(problem)) is expected


@pytest.mark.parametrize(
    ("names", "description"),
    [
        ("words", "add and subtract numbers from 1 to 100; multiply and divide numbers from 1 to 10"),
        ("add:1 add:2 add:3", "add numbers of up to 3 digits"),
        ("add:1 subtract:1", "add and subtract numbers of up to 1 digit"),
        ("add:2 add:4", "add numbers, the longer of 2 or 4 digits"),
        ("divide:2", "divide numbers, the first of 2 digits"),
        ("multiply:4x2", "multiply a number of 4 digits and one of 2"),
        (
            "words multiply:2",
            "add and subtract numbers from 1 to 100; "
            "multiply numbers from 1 to 10, or numbers, the longer of 2 digits; divide numbers from 1 to 10",
        ),
        ("modular:1 modular:2", "add modulo a number of up to 2 digits"),
        ("two_steps:2", "work out expressions of 2 operations, as (12-5)*4, of numbers of up to 2 digits"),
    ],
)
def test_description_names_operations_and_numbers(names, description):
    assert describe_range(parse_training_range(names.split())) == description


@pytest.mark.parametrize("preset", PRESETS)
def test_examples_are_new_problems_of_what_was_taught(preset):
    training_range = parse_training_range(PRESETS[preset].config.data.sources)
    examples = list(itertools.islice(draw_examples(training_range, np.random.default_rng(0)), 12))
    problems = [parse_problem(example) for example in examples]
    assert all(is_in_range(training_range, problem) for problem in problems)
    words = MAX_OPERANDS if training_range.small_number_problems else ()
    operations = {level.operation for level in training_range.levels} | set(words)
    assert {problem.operation for problem in problems} == operations
    if max((level.num_digits for level in training_range.levels), default=2) > 1:
        assert all(find_split(problem) == "test" for problem in problems if not is_fact(problem))
    assert any(re.search("[a-z]", example) for example in examples)
