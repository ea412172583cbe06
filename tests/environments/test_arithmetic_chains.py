"""Chains of steps against Python's integers, and their verification."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.environments.arithmetic_cases import QUICK, evaluate_text, numbers, problems

from thinking.environments.arithmetic.chains import (
    CHAIN_OF_THOUGHT,
    SUBTASKS,
    add_self_corrections,
    inject_error,
    make_chain,
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


def read_number(steps):
    """The number whose digits these steps give, the least significant first."""
    return int("".join(re.search(r"=(\d),\d$", step)[1] for step in reversed(steps)))


@given(numbers, numbers)
@QUICK
def test_addition_digits_and_last_carry_give_the_sum(left, right):
    steps = make_chain(Problem(ADD, (left, right)))
    assert int(steps[-1][-1]) * 10 ** len(steps) + read_number(steps) == left + right


@given(numbers, numbers)
@QUICK
def test_a_remaining_borrow_marks_a_negative_difference(left, right):
    steps, width = make_chain(Problem(SUBTRACT, (left, right))), max(len(str(left)), len(str(right)))
    first, second = steps[:width], steps[width:]
    assert first[-1].endswith(",1") == (left < right) == bool(second)
    assert (-read_number(second) if second else read_number(first)) == left - right


@given(numbers, st.lists(st.integers(1, 9), min_size=2, max_size=12))
@QUICK
def test_multiplication_adds_partial_products_row_by_row(left, factors):
    right = int("".join(map(str, reversed(factors))))
    steps = make_chain(Problem(MULTIPLY, (left, right)))
    partial_products = [left * factor * 10**index for index, factor in enumerate(factors)]
    totals = np.cumsum(np.array(partial_products, object)).tolist()
    expected = partial_products[:1] + [
        value for pair in zip(partial_products[1:], totals[1:], strict=True) for value in pair
    ]
    assert [int(step[1:]) for step in steps if step.startswith("=")] == expected[:-1]
    addition_start = max(index for index, step in enumerate(steps) if step.startswith("=")) + 1
    last_addition = steps[addition_start:]
    assert int(last_addition[-1][-1]) * 10 ** len(last_addition) + read_number(last_addition) == left * right


def is_correct_digit_step(step):
    """Whether the digits of a step are correct."""
    if match := re.fullmatch(r"(\d)([-+*])(\d)([-+])(\d)=(\d),(\d)", step):
        a, sign, b, _, c, digit, carry = match.groups()
        a, b, c, digit, carry = map(int, (a, b, c, digit, carry))
        if sign == "-":
            return a - b - c == digit - 10 * carry
        return (a + b if sign == "+" else a * b) + c == digit + 10 * carry
    if match := re.fullmatch(r"(\d+)/(\d+)=(\d)(?:,(\d))?", step):
        dividend, divisor, quotient, remainder = (None if group is None else int(group) for group in match.groups())
        return quotient == dividend // divisor and remainder in (None, dividend % divisor)
    return step.startswith("=")


@given(problems)
@QUICK
def test_every_step_is_correct_and_expressions_keep_their_value(problem):
    steps = make_chain(problem)
    assert steps
    assert all(map(is_correct_digit_step, steps))
    for step in steps:
        if problem.is_nested and re.search(r"^=.*\d[-+*/]", step):
            assert evaluate_text(step[1:]) == problem.value


@given(numbers, numbers)
@QUICK
def test_long_division_brings_down_one_digit_per_step(left, divisor):
    divisor += 1
    pattern = r"\d+/\d+=(\d)(?:,(\d))?"
    matches = [match for step in make_chain(Problem(DIVIDE, (left, divisor))) if (match := re.fullmatch(pattern, step))]
    assert int("".join(match[1] for match in matches)) == left // divisor
    if divisor < 10:
        assert int(matches[-1][2]) == left % divisor


@given(problems)
@QUICK
def test_subtasks_are_correct_and_lead_to_the_answer(problem):
    subtask_problems = subtasks(problem)
    if not subtask_problems:
        assert make_chain(problem, SUBTASKS) == make_chain(problem, CHAIN_OF_THOUGHT)
        return
    for step, subtask in zip(make_chain(problem, SUBTASKS), subtask_problems, strict=True):
        text, answer = re.fullmatch("<ask>(.*)=<answer>(.*)", step).groups()
        assert int(answer.split("r")[0]) == evaluate_text(text) == subtask.value
    final_value = subtask_problems[-1].value
    if problem.operation == MODULAR and final_value < 0:
        final_value = subtask_problems[0].value
    if problem.operation == MULTIPLY and not problem.is_nested and len(subtask_problems) == 1:
        final_value *= 10 ** sum(str(value).count("0") for value in problem.values if value)
    assert final_value == problem.value


@pytest.mark.parametrize(
    ("factors", "steps"),
    [
        ((12, 34), "12*4=48 12*30=360 48+360=408"),
        ((123, 40), "3*40=120 20*40=800 120+800=920 100*40=4000 920+4000=4920"),
        ((12, 300), "2*300=600 10*300=3000 600+3000=3600"),
        ((700, 8), "7*8=56"),
        ((20, 3000), "2*3=6"),
        ((12, 30), ""),  # has steps for digits instead
        ((0, 7), ""),
    ],
)
def test_products_split_into_subtasks_by_digit(factors, steps):
    expected = ["<ask>" + step.replace("=", "=<answer>") for step in steps.split()]
    actual = subtasks(Problem(MULTIPLY, factors))
    assert [f"<ask>{format_question(subtask)}<answer>{subtask.value}" for subtask in actual] == expected


@given(st.integers(0, 10**9), st.integers(0, 10**9))
@QUICK
def test_subtasks_reduce_any_product_to_short_ones(left, right):
    max_factor, max_depth, pending = 0, 0, [(Problem(MULTIPLY, (left, right)), 0)]
    while pending:
        problem, level = pending.pop()
        max_depth = max(max_depth, level)
        pending += [(subtask, level + 1) for subtask in subtasks(problem)]
        if problem.operation == MULTIPLY and not subtasks(problem):
            max_factor = max(max_factor, *problem.values)
    assert max_factor < 100
    assert max_depth <= 3


def test_intermediate_problems_of_products():
    assert list(intermediate_problems(Problem(MULTIPLY, (1234, 500)))) == []
    expected = [Problem(MULTIPLY, (123, 4)), Problem(MULTIPLY, (123, 50)), Problem(ADD, (492, 6150))]
    assert list(intermediate_problems(Problem(MULTIPLY, (123, 54)))) == expected


@pytest.mark.parametrize(
    ("problem", "steps"),
    [
        (Problem(ADD, (57, 8)), "7+8+0=5,1 5+0+1=6,0"),
        (Problem(SUBTRACT, (57, 80)), "7-0-0=7,0 5-8-0=7,1 0-7-0=3,1 0-7-1=2,1"),
        (Problem(MULTIPLY, (57, 8)), "7*8+0=6,5 5*8+5=5,4"),
        (Problem(DIVIDE, (577, 8)), "5/8=0,5 57/8=7,1 17/8=2,1"),
        (Problem(MODULAR, (5, 9, 12)), "5+9+0=4,1 =14 4-2-0=2,0 1-1-0=0,0"),
        (Problem(SUBTRACT, (Problem(ADD, (3, 4)), 2)), "3+4+0=7,0 =7-2 7-2-0=5,0"),
    ],
)
def test_chains_of_known_problems(problem, steps):
    assert make_chain(problem) == steps.split()


@given(problems, st.sampled_from([CHAIN_OF_THOUGHT, SUBTASKS]), st.booleans(), st.integers(0, 999))
@QUICK
def test_verify_chain_flags_exactly_the_injected_error(problem, style, reverse_digits, seed):
    rng = np.random.default_rng(seed)
    steps = make_chain(problem, style, reverse_digits)
    error_index = int(rng.integers(len(steps)))
    steps[error_index] = inject_error(steps[error_index], rng)
    verified_steps = verify_chain(problem, f"<think>{'<step>'.join(steps)}</think>", style, reverse_digits)
    assert [step.is_correct for step in verified_steps] == [index != error_index for index in range(len(steps))]


@given(problems, st.booleans(), st.integers(0, 999))
@QUICK
def test_self_corrections_retract_each_injected_error_alone(problem, reverse_digits, seed):
    spans = add_self_corrections(
        make_chain(problem, CHAIN_OF_THOUGHT, reverse_digits), 0.5, np.random.default_rng(seed)
    )
    verified_steps = verify_chain(
        problem, f"<think>{''.join(text for text, _ in spans)}</think>", CHAIN_OF_THOUGHT, reverse_digits
    )
    assert all(step.is_correct != step.is_retracted for step in verified_steps)
    assert sum(step.is_retracted for step in verified_steps) == sum(is_error for _, is_error in spans)
    assert [step.text for step in verified_steps if step.is_correct] == make_chain(
        problem, CHAIN_OF_THOUGHT, reverse_digits
    )


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_verify_chain_handles_malformed_chains(text, expected):
    assert [step.is_correct for step in verify_chain(Problem(ADD, (57, 8)), text)] == expected
