"""Worked chains, against Python's own integers, and the check of any chain."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, calculated, numbers, problems

from thinking.environments.arithmetic.chains import (
    CHAIN_OF_THOUGHT,
    SUBTASKS,
    add_self_corrections,
    chain,
    inject_error,
    verify_chain,
)
from thinking.environments.arithmetic.problems import (
    ADD,
    DIVIDE,
    MODULAR,
    MULTIPLY,
    SUBTRACT,
    Problem,
    format_question,
    intermediate_problems,
    subtasks,
)


def read(steps):
    """The number whose digits these steps write, the least significant first."""
    return int("".join(re.search(r"=(\d),\d$", step)[1] for step in reversed(steps)))


@given(numbers, numbers)
@QUICK
def test_the_digits_of_an_addition_and_its_last_carry_are_the_sum(left, right):
    steps = chain(Problem(ADD, (left, right)))
    assert int(steps[-1][-1]) * 10 ** len(steps) + read(steps) == left + right


@given(numbers, numbers)
@QUICK
def test_a_borrow_that_is_left_says_that_a_difference_is_negative(left, right):
    steps, width = chain(Problem(SUBTRACT, (left, right))), max(len(str(left)), len(str(right)))
    first, second = steps[:width], steps[width:]
    assert first[-1].endswith(",1") == (left < right) == bool(second)
    assert (-read(second) if second else read(first)) == left - right


@given(numbers, st.lists(st.integers(1, 9), min_size=2, max_size=12))
@QUICK
def test_a_product_is_collected_row_by_row(left, factors):
    right = int("".join(map(str, reversed(factors))))
    steps = chain(Problem(MULTIPLY, (left, right)))
    partial = [left * factor * 10**place for place, factor in enumerate(factors)]
    totals = np.cumsum(np.array(partial, object)).tolist()
    expected = partial[:1] + [each for pair in zip(partial[1:], totals[1:], strict=True) for each in pair]
    assert [int(step[1:]) for step in steps if step.startswith("=")] == expected[:-1]
    additions = max(index for index, step in enumerate(steps) if step.startswith("=")) + 1
    last = steps[additions:]
    assert int(last[-1][-1]) * 10 ** len(last) + read(last) == left * right


def digit_step_is_true(step):
    """Whether what a step says of its own digits is so."""
    if match := re.fullmatch(r"(\d)([-+*])(\d)([-+])(\d)=(\d),(\d)", step):
        a, sign, b, _, c, digit, carry = match.groups()
        a, b, c, digit, carry = map(int, (a, b, c, digit, carry))
        if sign == "-":
            return a - b - c == digit - 10 * carry
        return (a + b if sign == "+" else a * b) + c == digit + 10 * carry
    if match := re.fullmatch(r"(\d+)/(\d+)=(\d)(?:,(\d))?", step):
        held, divisor, quotient, rest = (None if each is None else int(each) for each in match.groups())
        return quotient == held // divisor and rest in (None, held % divisor)
    return step.startswith("=")


@given(problems)
@QUICK
def test_every_digit_step_is_true_and_every_expression_on_the_way_has_the_same_value(asked):
    steps = chain(asked)
    assert steps
    assert all(map(digit_step_is_true, steps))
    for step in steps:
        if asked.is_nested and re.search(r"^=.*\d[-+*/]", step):
            assert calculated(step[1:]) == asked.value


@given(numbers, numbers)
@QUICK
def test_long_division_brings_down_digit_by_digit(left, divisor):
    divisor += 1
    pattern = r"\d+/\d+=(\d)(?:,(\d))?"
    found = [match for step in chain(Problem(DIVIDE, (left, divisor))) if (match := re.fullmatch(pattern, step))]
    assert int("".join(match[1] for match in found)) == left // divisor
    if divisor < 10:
        assert int(found[-1][2]) == left % divisor


@given(problems)
@QUICK
def test_subtasks_are_true_problems_that_lead_to_the_answer(asked):
    asked_on_the_way = subtasks(asked)
    if not asked_on_the_way:
        assert chain(asked, SUBTASKS) == chain(asked, CHAIN_OF_THOUGHT)
        return
    for step, each in zip(chain(asked, SUBTASKS), asked_on_the_way, strict=True):
        text, answer = re.fullmatch("<ask>(.*)=<answer>(.*)", step).groups()
        assert int(answer.split("r")[0]) == calculated(text) == each.value
    last = asked_on_the_way[-1].value
    if asked.operation == MODULAR and last < 0:
        last = asked_on_the_way[0].value
    if asked.operation == MULTIPLY and not asked.is_nested and len(asked_on_the_way) == 1:
        last *= 10 ** sum(str(each).count("0") for each in asked.values if each)
    assert last == asked.value


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ((12, 34), "12*4=48 12*30=360 48+360=408"),
        ((123, 40), "3*40=120 20*40=800 120+800=920 100*40=4000 920+4000=4920"),
        ((12, 300), "2*300=600 10*300=3000 600+3000=3600"),
        ((700, 8), "7*8=56"),
        ((20, 3000), "2*3=6"),
        ((12, 30), ""),  # which is worked digit by digit
        ((0, 7), ""),
    ],
)
def test_a_product_falls_into_multiples_of_powers_of_ten(asked, steps):
    expected = ["<ask>" + step.replace("=", "=<answer>") for step in steps.split()]
    found = subtasks(Problem(MULTIPLY, asked))
    assert [f"<ask>{format_question(each)}<answer>{each.value}" for each in found] == expected


@given(st.integers(0, 10**9), st.integers(0, 10**9))
@QUICK
def test_products_of_any_length_come_down_to_short_ones(left, right):
    most, depth, left_over = 0, 0, [(Problem(MULTIPLY, (left, right)), 0)]
    while left_over:
        problem, above = left_over.pop()
        depth = max(depth, above)
        left_over += [(each, above + 1) for each in subtasks(problem)]
        if problem.operation == MULTIPLY and not subtasks(problem):
            most = max(most, *problem.values)
    assert most < 100
    assert depth <= 3


def test_worked_chains_of_long_products_have_no_more_to_them_than_before():
    assert list(intermediate_problems(Problem(MULTIPLY, (1234, 500)))) == []
    shown = [Problem(MULTIPLY, (123, 4)), Problem(MULTIPLY, (123, 50)), Problem(ADD, (492, 6150))]
    assert list(intermediate_problems(Problem(MULTIPLY, (123, 54)))) == shown


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        (Problem(ADD, (57, 8)), "7+8+0=5,1 5+0+1=6,0"),
        (Problem(SUBTRACT, (57, 80)), "7-0-0=7,0 5-8-0=7,1 0-7-0=3,1 0-7-1=2,1"),
        (Problem(MULTIPLY, (57, 8)), "7*8+0=6,5 5*8+5=5,4"),
        (Problem(DIVIDE, (577, 8)), "5/8=0,5 57/8=7,1 17/8=2,1"),
        (Problem(MODULAR, (5, 9, 12)), "5+9+0=4,1 =14 4-2-0=2,0 1-1-0=0,0"),
        (Problem(SUBTRACT, (Problem(ADD, (3, 4)), 2)), "3+4+0=7,0 =7-2 7-2-0=5,0"),
    ],
)
def test_chains_look_like_this(asked, steps):
    assert chain(asked) == steps.split()


@given(problems, st.sampled_from([CHAIN_OF_THOUGHT, SUBTASKS]), st.booleans(), st.integers(0, 999))
@QUICK
def test_the_check_flags_exactly_the_step_that_was_tampered_with(asked, style, least_first, seed):
    rng = np.random.default_rng(seed)
    steps = chain(asked, style, least_first)
    place = int(rng.integers(len(steps)))
    steps[place] = inject_error(steps[place], rng)
    found = verify_chain(asked, f"<think>{'<step>'.join(steps)}</think>", style, least_first)
    assert [each.is_correct for each in found] == [index != place for index in range(len(steps))]


@given(problems, st.booleans(), st.integers(0, 999))
@QUICK
def test_revised_chains_take_back_each_slip_and_nothing_else(asked, least_first, seed):
    pieces = add_self_corrections(chain(asked, CHAIN_OF_THOUGHT, least_first), 0.5, np.random.default_rng(seed))
    found = verify_chain(asked, f"<think>{''.join(text for text, _ in pieces)}</think>", CHAIN_OF_THOUGHT, least_first)
    assert all(each.is_correct != each.is_withdrawn for each in found)
    assert sum(each.is_withdrawn for each in found) == sum(slip for _, slip in pieces)
    assert [each.text for each in found if each.is_correct] == chain(asked, CHAIN_OF_THOUGHT, least_first)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", []),
        ("65<end>", []),
        ("<think>", []),
        ("<think></think>", [False]),
        ("<think>7+8+0=5,1", [True]),
        ("<think>7+8+0=5,1<step>", [True]),
        ("<think>7+8+0=5,1<step></think>", [True, False]),
        ("<think>7+8+0=5,1<check><step>5+0+1=6,0", [True, True]),
        ("<think>5+0+1=6,0<step>7+8+0=5,1", [False, False]),
        ("<think>7+8+0=5,1<step>5+0+1=6,0<step>5+0+1=6,0</think>", [True, True, False]),
    ],
)
def test_malformed_chains_are_judged_too(text, right):
    assert [each.is_correct for each in verify_chain(Problem(ADD, (57, 8)), text)] == right
