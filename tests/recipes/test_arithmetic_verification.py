"""The opposite question tells right answers from wrong ones, where whoever is asked answers rightly."""

import re
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.environments.arithmetic.parsing import parse_problem
from thinking.environments.arithmetic.problems import ADD, DIVIDE, MODULAR, MULTIPLY, SUBTRACT, Problem, format_answer
from thinking.generation.completions import Completions
from thinking.reasoning.post_training.rewards import outcome_reward
from thinking.reasoning.search.strategies import Samples
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompts
from thinking.recipes.arithmetic.verification import (
    Verification,
    choose_first_verified,
    make_inverse_problem,
    verify_samples,
)

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
problems = st.builds(
    lambda operation, left, right: Problem(operation, (left, right + (operation == DIVIDE))),
    st.sampled_from([ADD, SUBTRACT, MULTIPLY, DIVIDE]),
    st.integers(0, 500),
    st.integers(0, 500),
)


@given(problem=problems, slip=st.integers(1, 50))
@QUICK
def test_what_must_come_out_comes_out_for_the_right_answer_alone(problem, slip):
    found = make_inverse_problem(problem, format_answer(problem))
    if found is None:
        left, right = problem.values
        assert (problem.operation == DIVIDE and left % right) or (problem.operation == MULTIPLY and right == 0)
        return
    assert format_answer(found[0]) == found[1]
    quotient, mark, rest = format_answer(problem).partition("r")
    wrong = make_inverse_problem(problem, f"{int(quotient) + slip}{mark}{rest}")
    if wrong is not None and not (problem.operation == DIVIDE and problem.values[1] == 0):
        assert format_answer(wrong[0]) != wrong[1]


@pytest.mark.parametrize("said", ["", "r", "7r", "-", "12r0", "1,2", "012", "-0", "+12", "\u0661\u0662"])
def test_what_is_no_answer_has_no_opposite(said):
    assert make_inverse_problem(Problem(ADD, (5, 7)), said) is None


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Problem(ADD, (7, 8)), "015"),
        (Problem(SUBTRACT, (8, 8)), "-0"),
        (Problem(SUBTRACT, (8, 9)), "-01"),
        (Problem(DIVIDE, (12, 4)), "3r00"),
        (Problem(DIVIDE, (12, 4)), "03r0"),
    ],
)
def test_a_right_number_in_another_form_is_neither_verified_nor_rewarded(problem, said):
    assert judge(problem, f"<think></think><answer>{said}<end>") == (False, 0.0)
    assert judge(problem, f"<think></think><answer>{format_answer(problem)}<end>") == (True, 1.0)


def judge(problem, text, reverse_digits=False):
    """Whether a completion is verified by one who knows, and its reward."""
    attempts = written([[text]])
    completions = jax.tree.map(lambda leaf: leaf[0], attempts.completions)
    prompts = encode_prompts([problem], reverse_digits=reverse_digits)
    reward = outcome_reward(prompts.tokens, completions, answers=prompts.answers)
    ask = partial(ask_one_who_knows, reverse_digits=reverse_digits)
    return bool(verify_samples(ask, [problem], attempts, reverse_digits).is_verified[0, 0]), float(reward[0])


marks = st.sampled_from(["", "<think>", "</think>", "<answer>", "<step>", "<end>"])
forms = st.sampled_from(["{}", "0{}", "-{}", "{}r0", "{}r00", "{}0", "{}<answer>", "<answer>{}"])


@given(problem=problems, form=forms, before=marks, after=marks, reverse_digits=st.booleans(), slip=st.integers(-1, 1))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_what_is_verified_by_one_who_knows_is_what_is_rewarded(problem, form, before, after, reverse_digits, slip):
    answer = format_answer(problem, reverse_digits)
    if slip:
        answer = f"{answer[:-1]}{(int(answer[-1]) + slip) % 10}"
    text = f"{before}<answer>{form.format(answer)}{after}<end>"
    is_verified, reward = judge(problem, text, reverse_digits)
    has_inverse = make_inverse_problem(problem, format_answer(problem)) is not None
    assert is_verified == (reward == 1 and has_inverse)


def test_there_is_no_opposite_of_expressions_and_modular_sums():
    assert make_inverse_problem(Problem(ADD, (Problem(ADD, (1, 2)), 3)), "6") is None
    assert make_inverse_problem(Problem(MODULAR, (1, 2, 5)), "3") is None


def written(texts, width=24):
    """Attempts [B, M] of these texts."""
    tokens = np.zeros((len(texts), len(texts[0]), width), np.int32)
    for row, each in zip(tokens, texts, strict=True):
        for place, text in zip(row, each, strict=True):
            said = VOCABULARY.encode(text)
            place[: len(said)] = said
    length = (tokens > 0).sum(axis=2)
    blank = np.zeros(tokens.shape, np.float32)
    return Samples(Completions(tokens, length, blank, blank, np.ones(length.shape, bool)), length)


def ask_one_who_knows(prompts, reverse_digits=False):
    """The right answer to each question, as a model would write it, and its cost; what was asked is kept."""
    ask_one_who_knows.asked = [VOCABULARY.decode(each[1:]) for each in prompts]
    turn = partial(re.sub, "[0-9]+", lambda digits: digits[0][::-1]) if reverse_digits else str
    answers = [format_answer(parse_problem(turn(asked)), reverse_digits) for asked in ask_one_who_knows.asked]
    texts = [f"<think></think><answer>{answer}<end>" for answer in answers]
    found = [VOCABULARY.encode(text) for text in texts]
    return found, list(map(len, found))


def test_different_answers_are_checked_once_and_the_right_ones_stand():
    asked = [Problem(SUBTRACT, (12, 90)), Problem(ADD, (57, 8))]
    said = [["-78", "-72", "-78", "78"], ["65", "6", "", "65"]]
    attempts = written([[f"<think>1+1</think><answer>{each}<end>" for each in row] for row in said])
    found = verify_samples(ask_one_who_knows, asked, attempts)
    np.testing.assert_array_equal(found.is_verified, [[True, False, True, False], [True, False, False, True]])
    assert ask_one_who_knows.asked == ["78+12=", "72+12=", "78+90=", "65-8=", "6-8="]
    costs = [[len(VOCABULARY.encode(f"<think></think><answer>{said}<end>")) for said in ("90", "84")]]
    assert found.num_tokens[0].tolist() == [costs[0][0], costs[0][1], 0, 4 + 3]
    assert found.num_tokens[1].tolist() == [4 + 2, 4 + 2, 0, 0]


def test_an_answer_that_is_written_backwards_is_read_backwards():
    attempts = written([["<answer>56<end>"]])
    found = verify_samples(
        lambda prompts: ([VOCABULARY.encode("<answer>75<end>")], [3]), [Problem(ADD, (57, 8))], attempts, True
    )
    assert found.is_verified.tolist() == [[True]]


def test_attempts_end_with_the_first_that_stands():
    attempts = written([["<answer>1<end>", "<answer>2<end>", "<answer>3<end>"]] * 3)
    stands = np.array([[False, True, True], [False, False, False], [False, False, True]])
    found = Verification(stands, np.full((3, 3), 10))
    solutions = choose_first_verified(attempts, found, np.array([0, 1, 0]), 2)
    assert solutions.tokens[:, 1].tolist() == [VOCABULARY.encode(str(digit))[0] for digit in (2, 2, 1)]
    assert solutions.num_tokens.tolist() == [26, 26, 26]
    assert choose_first_verified(attempts, found, np.zeros(3, int), 3).num_tokens.tolist() == [26, 39, 39]
