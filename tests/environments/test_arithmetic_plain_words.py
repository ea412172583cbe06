"""Steps and answers in plain words."""

import re

import pytest
from hypothesis import given
from tests.environments.arithmetic_cases import QUICK, problems

from thinking.environments.arithmetic.chains import make_chain
from thinking.environments.arithmetic.plain_words import explain_step, reverse_numbers, say_answer
from thinking.environments.arithmetic.problems import DIVIDE, format_answer


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("1+0+0=1,0", "digit 1, carry 0"),
        ("3-8-0=5,1", "digit 5, borrow 1"),
        ("7*8+3=9,5", "digit 9, carry 5"),
        ("57/8=7,1", "digit 7, rest 1"),
        ("57/12=4", "digit 4"),
        ("=456", "makes 456"),
        ("=7*5", "is left to work out"),
        ("7+8+", ""),
        ("<ask>7+8=<answer>15", ""),
    ],
)
def test_steps_are_explained(step, words):
    assert explain_step(step) == words


@given(problems)
@QUICK
def test_every_step_of_a_worked_chain_has_words_with_its_results(problem):
    for step in make_chain(problem):
        words, result = explain_step(step), step.rpartition("=")[2]
        assert words
        assert re.findall(r"\d+", words) == ([] if "left" in words else result.split(","))


@given(problems)
@QUICK
def test_answers_are_said_without_notation(problem):
    quotient, *remainder = re.findall(r"-?\d+", say_answer(format_answer(problem)))
    assert int(quotient) == problem.value
    if problem.operation == DIVIDE:
        left, right = problem.values
        assert int(quotient) * right + int((remainder or ["0"])[0]) == left


@pytest.mark.parametrize(("answer", "said"), [("8r0", "8"), ("8r2", "8, remainder 2"), ("-3", "-3"), ("", "no answer")])
def test_quotients_are_said_with_a_remainder_if_there_is_one(answer, said):
    assert say_answer(answer) == said


def test_digits_of_each_number_are_reversed():
    assert reverse_numbers("21*43=804r02") == "12*34=408r20"
