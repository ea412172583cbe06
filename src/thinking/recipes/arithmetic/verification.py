"""Verification by the inverse problem: a difference is checked by a sum, and so on.

The model answers the inverse problem itself; true answers are not used.

Axes: B problems, M completions of each, N maximum tokens of a completion.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from thinking.environments.arithmetic.parsing import parse_answer
from thinking.environments.arithmetic.plain_words import reverse_numbers
from thinking.environments.arithmetic.problems import ADD, DIVIDE, MULTIPLY, SUBTRACT, Problem
from thinking.generation.answers import find_answers
from thinking.reasoning.search.strategies import Samples, Solutions
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompt

AnswerFn = Callable[[Sequence[Sequence[int]]], tuple[list[list[int]], list[int]]]
"""`answer_fn(prompts) -> (completions, num_tokens)`, both one per prompt."""


class Verification(NamedTuple):
    """Which completions are verified.

    Attributes:
        is_verified: [B, M] bool; False where there is no inverse problem.
        num_tokens: [B, M] int, tokens generated to verify each; 0 for an answer that was verified before.
    """

    is_verified: np.ndarray
    num_tokens: np.ndarray


def make_inverse_problem(problem: Problem, answer: str) -> tuple[Problem, str] | None:
    """The inverse problem of an answer, and its expected answer; None where there is none.

    Sums and differences are inverse to each other, as are products and quotients without a remainder.

    Args:
        problem: the problem.
        answer: its answer, most significant digit first, in the form of `format_answer`; others have no inverse.
    """
    parsed = parse_answer(answer)
    if problem.is_nested or parsed is None or (parsed[1] is not None) != (problem.operation == DIVIDE):
        return None
    (result, remainder), (left, right) = parsed, problem.values[:2]
    inverse, expected = None, left
    if problem.operation == ADD and result >= 0:
        inverse = Problem(SUBTRACT, (result, right))
    elif problem.operation == SUBTRACT:
        inverse = Problem(ADD, (abs(result), right if result >= 0 else left))
        expected = left if result >= 0 else right
    elif problem.operation == MULTIPLY and result >= 0 and right:
        inverse = Problem(DIVIDE, (result, right))
        return inverse, f"{left}r0"
    elif problem.operation == DIVIDE and result >= 0 and remainder == 0:
        inverse = Problem(MULTIPLY, (result, right))
    return None if inverse is None else (inverse, str(expected))


def verify_samples(
    answer_fn: AnswerFn, problems: Sequence[Problem], samples: Samples, reverse_digits: bool = False
) -> Verification:
    """Answer the inverse problem of every distinct answer, once.

    Args:
        answer_fn: the model.
        problems: B of them.
        samples: [B, M, ...] completions, on the host.
        reverse_digits: numbers have their least significant digit first.
    """
    shape = samples.num_tokens.shape
    is_verified, num_tokens = np.zeros(shape, bool), np.zeros(shape, np.int64)
    questions: dict[tuple[int, str], tuple[list[int], str]] = {}
    flat = (leaf.reshape(-1, *leaf.shape[2:]) for leaf in (samples.completions.tokens, samples.completions.length))
    answers = np.array(extract_answers(*flat, reverse_digits), object).reshape(shape)
    for index in np.ndindex(shape):
        inverse = make_inverse_problem(problems[index[0]], answers[index])
        if inverse is not None and (index[0], answers[index]) not in questions:
            questions[index[0], answers[index]] = encode_prompt(inverse[0], 0, reverse_digits), inverse[1]
    completions, costs = answer_fn([prompt for prompt, _ in questions.values()])
    found = extract_answers(*_pad(completions), reverse_digits)
    results = {
        key: (answer == expected, cost)
        for (key, (_, expected)), answer, cost in zip(questions.items(), found, costs, strict=True)
    }
    for index in np.ndindex(shape):
        key = (index[0], answers[index])
        is_verified[index] = results.get(key, (False, 0))[0]
        if key in results and answers[index] not in answers[index[0], : index[1]]:
            num_tokens[index] = results[key][1]
    return Verification(is_verified, num_tokens)


def choose_first_verified(
    samples: Samples, verification: Verification, fallback: np.ndarray, num_samples: int
) -> Solutions:
    """The first verified completion; counts the tokens up to it.

    Args:
        samples: on the host; each may build on the one before.
        verification: of the samples.
        fallback: [B], index below `num_samples` to choose where none is verified.
        num_samples: maximum number of completions.
    """
    is_verified = verification.is_verified[:, :num_samples]
    first, any_verified = np.argmax(is_verified, axis=1), np.any(is_verified, axis=1)
    chosen = np.where(any_verified, first, fallback)
    is_sampled = np.arange(num_samples)[None] <= np.where(any_verified, first, num_samples - 1)[:, None]
    num_tokens = np.sum(
        np.where(is_sampled, samples.num_tokens[:, :num_samples] + verification.num_tokens[:, :num_samples], 0), axis=1
    )
    problem = np.arange(len(chosen))
    return Solutions(
        samples.completions.tokens[problem, chosen], samples.completions.length[problem, chosen], num_tokens
    )


_find_answers = jax.jit(find_answers)


def extract_answers(tokens: np.ndarray, lengths: np.ndarray, reverse_digits: bool) -> list[str]:
    """The answers that rewards read in completions [R, N] of lengths [R], most significant digit first; "" for none."""
    found = jax.device_get(_find_answers(Solutions(tokens, lengths, lengths)))
    answers = []
    for row, start, count, is_complete in zip(np.asarray(tokens), *found, strict=True):
        text = VOCABULARY.decode(row[start : start + count].tolist()) if is_complete else ""
        answers.append(reverse_numbers(text) if reverse_digits else text)
    return answers


def _pad(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows as an array [R, N], at least one token wide, padded with 0, and their lengths [R]."""
    tokens = np.zeros((len(rows), max([1, *map(len, rows)])), np.int32)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row
    return tokens, np.array([len(row) for row in rows], np.int32)
