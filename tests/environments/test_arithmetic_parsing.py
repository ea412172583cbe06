"""Reading: what is asked is understood however it is typed, and everything else is refused with one line."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, problems

from thinking.environments.arithmetic.parsing import SYNTAX_HINT, parse_answer, parse_problem
from thinking.environments.arithmetic.problems import WORDINGS, format_expression, format_question
from thinking.environments.arithmetic.sampling import NUM_OPERATIONS, Level, sample_problem

wordings = st.integers(0, 3)


@given(problems, wordings)
@QUICK
def test_every_wording_of_a_problem_reads_as_the_problem(asked, wording):
    assert parse_problem(format_question(asked, wording)) == asked


@given(
    st.builds(Level, st.sampled_from([*WORDINGS, *NUM_OPERATIONS]), st.integers(2, 12), st.none()),
    st.integers(0, 1000),
    st.booleans(),
    wordings,
)
@QUICK
def test_problems_of_every_level_are_understood(level, seed, test, wording):
    asked = sample_problem(np.random.default_rng(seed), level, test)
    assert parse_problem(format_question(asked, wording)) == asked


@given(problems, wordings, st.data())
@QUICK
def test_capitals_and_spaces_and_the_last_sign_do_not_matter(asked, wording, data):
    text = format_question(asked, wording).rstrip("=?")
    parts = re.findall(r"\d+|[A-Za-z]+|\S", text)
    # No space is needed but between words, and any number of them is allowed.
    gaps = data.draw(st.lists(st.sampled_from(["", " ", "  ", "\t"]), min_size=len(parts), max_size=len(parts)))
    typed = "".join(
        part + (gap or " " * (part.isalpha() and following.isalpha()))
        for part, gap, following in zip(parts, gaps, [*parts[1:], ""], strict=True)
    )
    typed = data.draw(st.sampled_from([typed, typed.upper(), typed.lower()]))
    assert parse_problem(typed + data.draw(st.sampled_from(["", ".", "?", "=", " = ?", "\n"]))) == asked


@given(
    st.lists(st.integers(0, 10**12), min_size=2, max_size=6), st.lists(st.sampled_from("+-*"), min_size=5, max_size=5)
)
@QUICK
def test_symbols_bind_as_they_do_in_python(numbers, signs):
    text = str(numbers[0]) + "".join(f"{sign}{value}" for sign, value in zip(signs, numbers[1:], strict=False))
    try:
        found = parse_problem(text)
    except ValueError as refusal:
        assert "is negative" in str(refusal)  # noqa: PT017  on the way; what comes out in the end may be
    else:
        assert found.value == eval(text)


@pytest.mark.parametrize(
    ("typed", "expected"),
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
    ],
)
def test_people_need_not_type_as_the_machine_does(typed, expected):
    assert format_expression(parse_problem(typed)) == expected


def test_a_number_may_have_hundreds_of_digits():
    long = int("9" * 400)
    assert parse_problem(f"{long}*{long}").values == (long, long)


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("hello", "'hello' is no arithmetic"),
        ("", "'' is no arithmetic"),
        ("What is the meaning of 42?", "'the' in 'the meaning of 42' is not understood"),
        ("42", "'42' is a number, which asks nothing"),
        ("5/0", "divide by 0"),
        ("Divide 12 by (3-3)", "divide by 0"),
        ("-3+5", r"'-3\+5' holds a negative number"),
        ("What is 5 minus -3?", "'-3' holds a negative number"),
        ("3-5+7", "operand -2 of add is negative"),
        ("(57+8)%12", "57 modulo 12; give numbers below the modulus"),
        ("57%12", "what is taken modulo a number is a sum in brackets"),
        ("7+8%12", "what is taken modulo a number is a sum in brackets"),
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
def test_what_is_not_understood_is_refused_with_one_line_that_says_what_is(typed, complaint):
    with pytest.raises(ValueError, match=complaint) as refusal:
        parse_problem(typed)
    assert str(refusal.value).endswith(SYNTAX_HINT)
    assert str(refusal.value).isprintable()


@given(st.text("0123456789+-*/%()x .=?andAddWhatis\n\x00\x1b\N{LATIN SMALL LETTER E WITH ACUTE}", max_size=30))
@QUICK
def test_no_line_is_a_failure(typed):
    try:
        found = parse_problem(typed)
    except ValueError as refusal:
        assert str(refusal).endswith(SYNTAX_HINT)  # noqa: PT017
    else:
        assert parse_problem(format_question(found)) == found


def test_the_examples_of_what_is_understood_are():
    for example in re.split(", | or ", SYNTAX_HINT.removeprefix("ask as in ")):
        assert parse_problem(example)


@pytest.mark.parametrize(
    ("text", "expected"), [("0", (0, None)), ("-15", (-15, None)), ("3r0", (3, 0)), ("0r12", (0, 12))]
)
def test_an_answer_is_read_in_its_one_form(text, expected):
    assert parse_answer(text) == expected


@pytest.mark.parametrize("text", ["", "015", "-0", "00", "3r00", "3r", "r3", "3r-1", "+3", "3 ", "1,5", "\u0663"])
def test_a_number_in_another_form_is_no_answer(text):
    assert parse_answer(text) is None
