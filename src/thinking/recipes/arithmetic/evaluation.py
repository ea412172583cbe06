"""Exams: what share of held-out problems a decoder answers right, greedily."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from thinking.batching import in_batches
from thinking.generation.completions import generate
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.rewards import outcome
from thinking.reasoning.search.subtasks import solver
from thinking.recipes.arithmetic.datasets import Exam
from thinking.recipes.arithmetic.digit_positions import COORDINATES, locate
from thinking.recipes.arithmetic.rows import Prompts
from thinking.text.vocabulary import END
from thinking.types import Array, Params

BATCH = 512
"""Problems that are answered at once."""
DEEPEST, MOST = 12, 512
"""Contexts within one another, and contexts of a problem, when sub-tasks are solved."""


def marks(model: Decoder, params: Params, asked: Exam, new: int, *, by_place: bool = False) -> list[dict[str, Any]]:
    """Rows by subject, each problem answered in one context.

    Args:
        model: a decoder.
        params: its parameters.
        asked: the exam.
        new: tokens that an answer may have, its thought included.
        by_place: whether the model reads the places of digits.
    """
    located = {"locate": locate, "coordinates": COORDINATES} if by_place else {}

    def answer(part: Prompts) -> tuple[Array, Array]:
        written = generate(
            model,
            params,
            jax.random.key(0),  # nothing is left to chance
            part.tokens,
            part.lengths,
            max_new_tokens=new,
            sampling=Sampling(temperature=0.0),
            stop_tokens=(END,),
            **located,
        )
        return outcome(part.tokens, written, answers=part.answers), written.length

    right, length = in_batches(jax.jit(answer), asked.prompts, min(BATCH, len(asked.problems)))
    return by_subject(asked.subject, right, tokens=length)


def marks_by_recursion(model: Decoder, params: Params, asked: Exam) -> list[dict[str, Any]]:
    """Rows by subject, each sub-task solved in a context of its own; with how many and how deep they were on average.

    Args:
        model: a decoder that was taught to ask for sub-tasks.
        params: its parameters.
        asked: the exam.
    """
    prompts = [row[:length].tolist() for row, length in zip(*asked.prompts[:2], strict=True)]
    found = solver(model, max_depth=DEEPEST, max_contexts=MOST)(params, jax.random.key(0), prompts)
    right = [each.answer == row[row > 0].tolist() for each, row in zip(found, asked.prompts.answers, strict=True)]
    figures = {name: np.array([getattr(each, name) for each in found]) for name in ("tokens", "contexts", "depth")}
    return by_subject(asked.subject, np.array(right), **figures)


def by_subject(subject: Sequence[str], right: Array, **figures: Array) -> list[dict[str, Any]]:
    """How many questions there are, how many of them are right, and means of figures: by subject, then of all.

    Args:
        subject: [R], of each question.
        right: [R], 1 or 0.
        **figures: [R] by name, such as the tokens that were written; `tokens` is told as `tokens_mean`.
    """
    names, found = np.array(subject), []
    for which in [*dict.fromkeys(subject), "all"]:
        chosen = np.ones(len(names), bool) if which == "all" else names == which
        found.append(
            {
                "subject": which,
                "problems": int(chosen.sum()),
                "exact_percent": 100 * float(np.mean(np.asarray(right, float)[chosen])),
                **{f"{name}_mean": float(np.mean(np.asarray(each)[chosen])) for name, each in figures.items()},
            }
        )
    return found
