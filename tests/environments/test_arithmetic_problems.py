"""Problems and their answers, against a calculator that is written another way."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, calculated, problem, problems

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
def test_answers_are_those_of_the_symbols(asked):
    text = format_question(asked)
    assert text.endswith("=")
    assert asked.value == calculated(text[:-1])
    if asked.operation == DIVIDE:
        left, right = asked.values
        assert format_answer(asked) == "{}r{}".format(*divmod(left, right))
    else:
        assert format_answer(asked) == str(asked.value)


@given(st.integers(-(10**40), 10**40))
@QUICK
def test_a_number_reads_from_either_end(value):
    assert int(format_number(value)) == value
    sign, digits = re.fullmatch("(-?)(.+)", format_number(value, reverse_digits=True)).groups()
    assert int(sign + digits[::-1]) == value


def test_words_and_symbols_ask_the_same():
    asked = Problem(SUBTRACT, (8, 57))
    assert format_question(asked, 3) == "Subtract 57 from 8"
    assert format_question(asked, 1, reverse_digits=True) == "Calculate the difference of 8 and 75"
    for operation, wordings in WORDINGS.items():
        for wording in range(len(wordings)):
            VOCABULARY.encode(format_question(problem(operation, 12, 34), wording))


@pytest.mark.parametrize(
    ("operation", "operands", "complaint"),
    [
        ("root", (1, 2), "unknown"),
        (ADD, (1, 2, 3), "give 2"),
        (ADD, (-1, 2), "negative"),
        (ADD, (Problem(SUBTRACT, (1, 2)), 2), "negative"),
        (DIVIDE, (1, 0), "divide by 0"),
        (MODULAR, (5, 7, 7), "below the modulus"),
    ],
)
def test_what_is_no_problem_is_refused(operation, operands, complaint):
    with pytest.raises(ValueError, match=complaint):
        Problem(operation, operands)
