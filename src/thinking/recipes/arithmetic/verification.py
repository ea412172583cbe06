"""A result is checked by the opposite question: what a difference comes to, plus what was taken, is what there was.

Who can add better than subtract thus finds its own mistakes. Nothing but the model's own answers is looked at.

Axes: B problems, M attempts at each, N tokens of the longest attempt.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from thinking.environments.arithmetic.problems import ADD, DIVIDE, MULTIPLY, SUBTRACT, Problem
from thinking.reasoning.search.strategies import Samples, Solutions
from thinking.recipes.arithmetic.rows import VOCABULARY, encode_prompt
from thinking.text.vocabulary import ANSWER, END

AnswerFn = Callable[[Sequence[Sequence[int]]], tuple[list[list[int]], list[int]]]
"""`ask(prompts) -> (completions, tokens)`: what the model writes for each prompt, and how many tokens it took."""


class Verification(NamedTuple):
    """Which attempts stand their check.

    Attributes:
        is_verified: [B, M] bool; never one that cannot be checked.
        num_tokens: [B, M] int, tokens written to check each; an answer that was checked before costs nothing.
    """

    is_verified: np.ndarray
    num_tokens: np.ndarray


def make_inverse_problem(problem: Problem, answer: str) -> tuple[Problem, str] | None:
    """The question that checks an answer, and what must come out; None where there is none.

    Sums are checked by differences and differences by sums, products by quotients and quotients without a remainder by
    products.

    Args:
        problem: what was asked.
        answer: its answer, most significant digits first.
    """
    number = re.fullmatch(r"(-?\d+)(?:r(\d+))?", answer)
    if problem.is_nested or number is None or (number[2] is not None) != (problem.operation == DIVIDE):
        return None
    found, (left, right) = int(number[1]), problem.values[:2]
    question, wanted = None, left
    if problem.operation == ADD and found >= 0:
        question = Problem(SUBTRACT, (found, right))
    elif problem.operation == SUBTRACT:
        question = Problem(ADD, (abs(found), right if found >= 0 else left))
        wanted = left if found >= 0 else right
    elif problem.operation == MULTIPLY and found >= 0 and right:
        question = Problem(DIVIDE, (found, right))
        return question, f"{left}r0"
    elif problem.operation == DIVIDE and found >= 0 and int(number[2]) == 0:
        question = Problem(MULTIPLY, (found, right))
    return None if question is None else (question, str(wanted))


def verify_samples(
    answer_fn: AnswerFn, problems: Sequence[Problem], samples: Samples, reverse_digits: bool = False
) -> Verification:
    """Ask the opposite of every different answer, once.

    Args:
        answer_fn: the model.
        problems: B of them.
        samples: at them, on the host.
        reverse_digits: how numbers are written.
    """
    shape = samples.num_tokens.shape
    stands, spent = np.zeros(shape, bool), np.zeros(shape, np.int64)
    questions: dict[tuple[int, str], tuple[list[int], str]] = {}
    said = np.full(shape, "", object)
    for place in np.ndindex(shape):
        said[place] = _extract_answer(samples.completions.tokens[place], reverse_digits)
        found = make_inverse_problem(problems[place[0]], said[place])
        if found is not None and (place[0], said[place]) not in questions:
            questions[place[0], said[place]] = encode_prompt(found[0], 0, reverse_digits), found[1]
    written, tokens = answer_fn([asked for asked, _ in questions.values()])
    results = {
        key: (_extract_answer(text, reverse_digits) == wanted, cost)
        for (key, (_, wanted)), text, cost in zip(questions.items(), written, tokens, strict=True)
    }
    for place in np.ndindex(shape):
        key = (place[0], said[place])
        stands[place] = results.get(key, (False, 0))[0]
        if key in results and said[place] not in said[place[0], : place[1]]:
            spent[place] = results[key][1]
    return Verification(stands, spent)


def choose_first_verified(
    samples: Samples, verification: Verification, fallback: np.ndarray, num_samples: int
) -> Solutions:
    """Sequential revision: attempts are made and checked until one stands; if none does, another choice counts.

    Args:
        samples: on the host; each may build on the one before.
        verification: their checks.
        fallback: [B], the attempt that counts where none stands, below `num_samples`.
        num_samples: the most attempts.
    """
    stands = verification.is_verified[:, :num_samples]
    first, any_stands = np.argmax(stands, axis=1), np.any(stands, axis=1)
    best = np.where(any_stands, first, fallback)
    made = np.arange(num_samples)[None] <= np.where(any_stands, first, num_samples - 1)[:, None]
    spent = np.sum(
        np.where(made, samples.num_tokens[:, :num_samples] + verification.num_tokens[:, :num_samples], 0), axis=1
    )
    problem = np.arange(len(best))
    return Solutions(samples.completions.tokens[problem, best], samples.completions.length[problem, best], spent)


def _extract_answer(tokens: Sequence[int], reverse_digits: bool) -> str:
    """What stands between the last answer mark and the end, most significant digits first; empty without both."""
    tokens = list(map(int, tokens))
    if END not in tokens or ANSWER not in tokens[: tokens.index(END)]:
        return ""
    tokens = tokens[: tokens.index(END)]
    start = len(tokens) - tokens[::-1].index(ANSWER)
    text = VOCABULARY.decode(tokens[start:])
    return re.sub(r"\d+", lambda digits: digits[0][::-1], text) if reverse_digits else text
