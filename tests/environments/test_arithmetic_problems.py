"""Problems and their answers, against an independent calculator."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, evaluate_text, make_problem, problems

from thinking.environments.arithmetic.problems import (
    ADD,
    DIVIDE,
    MODULAR,
    SUBTRACT,
    WORDINGS,
    Problem,
    format_answer,
    format_number,
    format_question,
)
from thinking.recipes.arithmetic.rows import VOCABULARY


@given(problems)
@QUICK
def test_answers_match_an_independent_calculator(problem):
    text = format_question(problem)
    assert text.endswith("=")
    assert problem.value == evaluate_text(text[:-1])
    if problem.operation == DIVIDE:
        left, right = problem.values
        assert format_answer(problem) == "{}r{}".format(*divmod(left, right))
    else:
        assert format_answer(problem) == str(problem.value)


@given(st.integers(-(10**40), 10**40))
@QUICK
def test_format_number_may_reverse_the_digits(value):
    assert int(format_number(value)) == value
    sign, digits = re.fullmatch("(-?)(.+)", format_number(value, reverse_digits=True)).groups()
    assert int(sign + digits[::-1]) == value


def test_format_question_has_wordings_that_the_vocabulary_encodes():
    problem = Problem(SUBTRACT, (8, 57))
    assert format_question(problem, 3) == "Subtract 57 from 8"
    assert format_question(problem, 1, reverse_digits=True) == "Calculate the difference of 8 and 75"
    for operation, wordings in WORDINGS.items():
        for wording in range(len(wordings)):
            VOCABULARY.encode(format_question(make_problem(operation, 12, 34), wording))


@pytest.mark.parametrize(
    ("operation", "operands", "message"),
    [
        ("root", (1, 2), "unknown"),
        (ADD, (1, 2, 3), "give 2"),
        (ADD, (-1, 2), "negative"),
        (ADD, (Problem(SUBTRACT, (1, 2)), 2), "negative"),
        (DIVIDE, (1, 0), "divide by 0"),
        (MODULAR, (5, 7, 7), "below the modulus"),
    ],
)
def test_invalid_problems_are_rejected(operation, operands, message):
    with pytest.raises(ValueError, match=message):
        Problem(operation, operands)
