"""Parsing: every wording and notation is accepted; everything else is rejected with one line."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, problems

from thinking.environments.arithmetic.parsing import parse_answer, parse_problem
from thinking.environments.arithmetic.problem_sampling import NUM_OPERATIONS, Level, sample_problem
from thinking.environments.arithmetic.problems import WORDINGS, format_expression, format_question
from thinking.environments.arithmetic.split import SPLITS

wordings = st.integers(0, 3)


@given(problems, wordings)
@QUICK
def test_parsing_inverts_formatting_in_every_wording(problem, wording):
    assert parse_problem(format_question(problem, wording)) == problem


@given(
    st.builds(Level, st.sampled_from([*WORDINGS, *NUM_OPERATIONS]), st.integers(2, 12), st.none()),
    st.integers(0, 1000),
    st.sampled_from(SPLITS),
    wordings,
)
@QUICK
def test_problems_of_every_level_parse(level, seed, split, wording):
    problem = sample_problem(np.random.default_rng(seed), level, split)
    assert parse_problem(format_question(problem, wording)) == problem


@given(problems, wordings, st.data())
@QUICK
def test_case_spaces_and_final_punctuation_are_ignored(problem, wording, data):
    question = format_question(problem, wording).rstrip("=?")
    parts = re.findall(r"\d+|[A-Za-z]+|\S", question)
    # Spaces are needed between words only; any number of them is allowed.
    gaps = data.draw(st.lists(st.sampled_from(["", " ", "  ", "\t"]), min_size=len(parts), max_size=len(parts)))
    text = "".join(
        part + (gap or " " * (part.isalpha() and next_part.isalpha()))
        for part, gap, next_part in zip(parts, gaps, [*parts[1:], ""], strict=True)
    )
    text = data.draw(st.sampled_from([text, text.upper(), text.lower()]))
    assert parse_problem(text + data.draw(st.sampled_from(["", ".", "?", "=", " = ?", "\n"]))) == problem


@given(
    st.lists(st.integers(0, 10**12), min_size=2, max_size=6), st.lists(st.sampled_from("+-*"), min_size=5, max_size=5)
)
@QUICK
def test_operator_precedence_matches_python(numbers, signs):
    text = str(numbers[0]) + "".join(f"{sign}{value}" for sign, value in zip(signs, numbers[1:], strict=False))
    try:
        problem = parse_problem(text)
    except ValueError as refusal:
        assert "is negative" in str(refusal)  # noqa: PT017  intermediate values must not be negative, the final value may
    else:
        assert problem.value == eval(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12*(3+4)-5", "(12*(3+4))-5"),
        ("12-5-3", "(12-5)-3"),
        ("100/5/2*3", "((100/5)/2)*3"),
        ("((((5))+(3)))", "5+3"),
        ("12 x 4", "12*4"),
        ("(3+4)X5", "(3+4)*5"),
        ("12 : 4", "12/4"),
        ("12\N{MULTIPLICATION SIGN}4\N{DIVISION SIGN}3", "(12*4)/3"),
        ("12 \N{MINUS SIGN} 4 =", "12-4"),
        ("What is 57 + 8?", "57+8"),
        ("calculate (57+8)*2", "(57+8)*2"),
        ("007+08", "7+8"),
        ("(7+8)%12+1", "((7+8)%12)+1"),
        ("Add (3+4) and 5", "(3+4)+5"),
        ("add 3 to 4", "3+4"),
        ("How much is 3+4?", "3+4"),
        ("how much is 3 minus 4", "3-4"),
        ("what's 9 multiplied by 3", "9*3"),
        ("what is the sum of 3 and 4", "3+4"),
        ("8 divided by 2", "8/2"),
    ],
)
def test_parsing_accepts_alternative_notations(text, expected):
    assert format_expression(parse_problem(text)) == expected


def test_numbers_may_have_hundreds_of_digits():
    number = int("9" * 400)
    assert parse_problem(f"{number}*{number}").values == (number, number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "'hello' is no arithmetic"),
        ("", "'' is no arithmetic"),
        ("What is the meaning of 42?", "'meaning' in 'meaning of 42' is not understood"),
        ("42", "'42' is a number, which asks nothing"),
        ("5/0", "divide by 0"),
        ("Divide 12 by (3-3)", "divide by 0"),
        ("-3+5", r"'-3\+5' holds a negative number"),
        ("What is 5 minus -3?", "'-3' holds a negative number"),
        ("3-5+7", "operand -2 of add is negative"),
        ("(57+8)%12", "57 modulo 12; give numbers below the modulus"),
        ("57%12", "the left side of % must be a sum in brackets"),
        ("7+8%12", "the left side of % must be a sum in brackets"),
        ("What is 3+4 times 5?", r"put brackets around '3\+4'"),
        ("What is (1+2)*(3+4) plus 1?", "put brackets around"),
        ("5 7", "no sign in front of '7' in '5 7'"),
        ("2(3+4)", r"no sign in front of '\('"),
        ("5+", r"no number at the end of '5\+'"),
        ("*5", r"no number in front of \* in"),
        ("5**2", r"no number in front of \* in"),
        ("5+()", r"no number in front of \) in"),
        ("(5+3", "a bracket is not closed"),
        ("5+3)", "closed in .* never opened"),
        ("3.5+2", r"'\.' in '3.5\+2' is not understood"),
        ("57+8=65", "'=' in"),
        ("5\N{SUPERSCRIPT TWO}+1", "is not understood"),
        ("\x1b[31m5+3", r"'\\x1b\[' in"),
        ("+".join("1" * 52), "more than 50 operations"),
        ("(" * 40 + "1" + "+1)" * 40 + "*2" * 11, "more than 50 operations"),
        ("1" * 1001, "1001 characters is too long; give at most 1000"),
    ],
)
def test_invalid_text_is_rejected_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_problem(text)
    assert str(error.value).isprintable()


@given(st.text("0123456789+-*/%()x .=?andAddWhatis\n\x00\x1b\N{LATIN SMALL LETTER E WITH ACUTE}", max_size=30))
@QUICK
def test_any_text_parses_or_raises_value_error(text):
    try:
        problem = parse_problem(text)
    except ValueError as refusal:
        assert str(refusal).isprintable()  # noqa: PT017
    else:
        assert parse_problem(format_question(problem)) == problem


@pytest.mark.parametrize(
    ("text", "expected"), [("0", (0, None)), ("-15", (-15, None)), ("3r0", (3, 0)), ("0r12", (0, 12))]
)
def test_canonical_answers_parse(text, expected):
    assert parse_answer(text) == expected


@pytest.mark.parametrize("text", ["", "015", "-0", "00", "3r00", "3r", "r3", "3r-1", "+3", "3 ", "1,5", "\u0663"])
def test_other_forms_of_answers_are_rejected(text):
    assert parse_answer(text) is None
