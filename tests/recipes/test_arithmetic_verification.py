"""Answers are verified by their inverse problems, given a model that solves these correctly."""

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


@given(problem=problems, error=st.integers(1, 50))
@QUICK
def test_inverse_problem_holds_only_for_the_correct_answer(problem, error):
    inverse = make_inverse_problem(problem, format_answer(problem))
    if inverse is None:
        left, right = problem.values
        assert (problem.operation == DIVIDE and left % right) or (problem.operation == MULTIPLY and right == 0)
        return
    assert format_answer(inverse[0]) == inverse[1]
    quotient, separator, remainder = format_answer(problem).partition("r")
    wrong_inverse = make_inverse_problem(problem, f"{int(quotient) + error}{separator}{remainder}")
    if wrong_inverse is not None and not (problem.operation == DIVIDE and problem.values[1] == 0):
        assert format_answer(wrong_inverse[0]) != wrong_inverse[1]


@pytest.mark.parametrize("answer", ["", "r", "7r", "-", "12r0", "1,2", "012", "-0", "+12", "\u0661\u0662"])
def test_unparsable_answer_has_no_inverse_problem(answer):
    assert make_inverse_problem(Problem(ADD, (5, 7)), answer) is None


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (Problem(ADD, (7, 8)), "015"),
        (Problem(SUBTRACT, (8, 8)), "-0"),
        (Problem(SUBTRACT, (8, 9)), "-01"),
        (Problem(DIVIDE, (12, 4)), "3r00"),
        (Problem(DIVIDE, (12, 4)), "03r0"),
    ],
)
def test_other_forms_of_correct_answers_are_neither_verified_nor_rewarded(problem, answer):
    assert verify_and_reward(problem, f"<think></think><answer>{answer}<end>") == (False, 0.0)
    assert verify_and_reward(problem, f"<think></think><answer>{format_answer(problem)}<end>") == (True, 1.0)


def verify_and_reward(problem, text, reverse_digits=False):
    """Whether `answer_correctly` verifies a completion, and its reward."""
    samples = make_samples([[text]])
    completions = jax.tree.map(lambda leaf: leaf[0], samples.completions)
    prompts = encode_prompts([problem], reverse_digits=reverse_digits)
    reward = outcome_reward(prompts.tokens, completions, answers=prompts.answers)
    answer_fn = partial(answer_correctly, reverse_digits=reverse_digits)
    verification = verify_samples(answer_fn, [problem], samples, reverse_digits)
    return bool(verification.is_verified[0, 0]), float(reward[0])


tokens = st.sampled_from(["", "<think>", "</think>", "<answer>", "<step>", "<end>"])
forms = st.sampled_from(["{}", "0{}", "-{}", "{}r0", "{}r00", "{}0", "{}<answer>", "<answer>{}"])


@given(
    problem=problems, form=forms, before=tokens, after=tokens, reverse_digits=st.booleans(), error=st.integers(-1, 1)
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_correctly_verified_completions_are_the_rewarded_ones(problem, form, before, after, reverse_digits, error):
    answer = format_answer(problem, reverse_digits)
    if error:
        answer = f"{answer[:-1]}{(int(answer[-1]) + error) % 10}"
    text = f"{before}<answer>{form.format(answer)}{after}<end>"
    is_verified, reward = verify_and_reward(problem, text, reverse_digits)
    has_inverse = make_inverse_problem(problem, format_answer(problem)) is not None
    assert is_verified == (reward == 1 and has_inverse)


def test_expressions_and_modular_sums_have_no_inverse_problem():
    assert make_inverse_problem(Problem(ADD, (Problem(ADD, (1, 2)), 3)), "6") is None
    assert make_inverse_problem(Problem(MODULAR, (1, 2, 5)), "3") is None


def make_samples(texts, width=24):
    """Samples [B, M] of these texts."""
    tokens = np.zeros((len(texts), len(texts[0]), width), np.int32)
    for row_tokens, row_texts in zip(tokens, texts, strict=True):
        for completion, text in zip(row_tokens, row_texts, strict=True):
            text_tokens = VOCABULARY.encode(text)
            completion[: len(text_tokens)] = text_tokens
    length = (tokens > 0).sum(axis=2)
    zeros = np.zeros(tokens.shape, np.float32)
    return Samples(Completions(tokens, length, zeros, zeros, np.ones(length.shape, bool)), length)


def answer_correctly(prompts, reverse_digits=False):
    """The correct completion for each prompt, and its length. Records the questions."""
    answer_correctly.questions = [VOCABULARY.decode(each[1:]) for each in prompts]
    reverse = partial(re.sub, "[0-9]+", lambda digits: digits[0][::-1]) if reverse_digits else str
    answers = [
        format_answer(parse_problem(reverse(question)), reverse_digits) for question in answer_correctly.questions
    ]
    texts = [f"<think></think><answer>{answer}<end>" for answer in answers]
    completions = [VOCABULARY.encode(text) for text in texts]
    return completions, list(map(len, completions))


def test_distinct_answers_are_verified_once():
    problems = [Problem(SUBTRACT, (12, 90)), Problem(ADD, (57, 8))]
    answers = [["-78", "-72", "-78", "78"], ["65", "6", "", "65"]]
    samples = make_samples([[f"<think>1+1</think><answer>{answer}<end>" for answer in row] for row in answers])
    verification = verify_samples(answer_correctly, problems, samples)
    np.testing.assert_array_equal(verification.is_verified, [[True, False, True, False], [True, False, False, True]])
    assert answer_correctly.questions == ["78+12=", "72+12=", "78+90=", "65-8=", "6-8="]
    costs = [[len(VOCABULARY.encode(f"<think></think><answer>{answer}<end>")) for answer in ("90", "84")]]
    assert verification.num_tokens[0].tolist() == [costs[0][0], costs[0][1], 0, 4 + 3]
    assert verification.num_tokens[1].tolist() == [4 + 2, 4 + 2, 0, 0]


def test_reversed_answers_are_verified():
    samples = make_samples([["<answer>56<end>"]])
    verification = verify_samples(
        lambda prompts: ([VOCABULARY.encode("<answer>75<end>")], [3]), [Problem(ADD, (57, 8))], samples, True
    )
    assert verification.is_verified.tolist() == [[True]]


def test_first_verified_sample_is_chosen():
    samples = make_samples([["<answer>1<end>", "<answer>2<end>", "<answer>3<end>"]] * 3)
    is_verified = np.array([[False, True, True], [False, False, False], [False, False, True]])
    verification = Verification(is_verified, np.full((3, 3), 10))
    solutions = choose_first_verified(samples, verification, np.array([0, 1, 0]), 2)
    assert solutions.tokens[:, 1].tolist() == [VOCABULARY.encode(str(digit))[0] for digit in (2, 2, 1)]
    assert solutions.num_tokens.tolist() == [26, 26, 26]
    assert choose_first_verified(samples, verification, np.zeros(3, int), 3).num_tokens.tolist() == [26, 39, 39]
