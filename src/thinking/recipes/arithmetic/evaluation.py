"""Exams: what share of held-out problems a decoder answers right, greedily."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from thinking.batching import apply_in_batches
from thinking.generation.completions import generate
from thinking.generation.sampling import Sampling
from thinking.networks.decoder import Decoder
from thinking.reasoning.post_training.rewards import outcome_reward
from thinking.reasoning.search.subtasks import make_solver
from thinking.recipes.arithmetic.datasets import EvaluationSet
from thinking.recipes.arithmetic.digit_positions import NUM_COORDINATES, locate
from thinking.recipes.arithmetic.rows import PromptArrays
from thinking.text.vocabulary import END
from thinking.types import Array, Params

BATCH_SIZE = 512
"""Problems that are answered at once."""
MAX_DEPTH, MAX_CONTEXTS = 12, 512
"""Contexts within one another, and contexts of a problem, when sub-tasks are solved."""


def evaluate_exact_match(
    decoder: Decoder,
    params: Params,
    evaluation_set: EvaluationSet,
    max_new_tokens: int,
    *,
    use_digit_positions: bool = False,
) -> list[dict[str, Any]]:
    """Rows by subject, each problem answered in one context.

    Args:
        decoder: a decoder.
        params: its parameters.
        evaluation_set: the exam.
        max_new_tokens: tokens that an answer may have, its thought included.
        use_digit_positions: whether the model reads the places of digits.
    """
    located = {"locate": locate, "num_coordinates": NUM_COORDINATES} if use_digit_positions else {}

    def answer(part: PromptArrays) -> tuple[Array, Array]:
        written = generate(
            decoder,
            params,
            jax.random.key(0),  # nothing is left to chance
            part.tokens,
            part.lengths,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=0.0),
            stop_tokens=(END,),
            **located,
        )
        return outcome_reward(part.tokens, written, answers=part.answers), written.length

    right, length = apply_in_batches(
        jax.jit(answer), evaluation_set.prompts, min(BATCH_SIZE, len(evaluation_set.problems))
    )
    return make_subject_rows(evaluation_set.subjects, right, tokens=length)


def evaluate_with_subtasks(decoder: Decoder, params: Params, evaluation_set: EvaluationSet) -> list[dict[str, Any]]:
    """Rows by subject, each sub-task solved in a context of its own; with how many and how deep they were on average.

    Args:
        decoder: a decoder that was taught to ask for sub-tasks.
        params: its parameters.
        evaluation_set: the exam.
    """
    prompts = [row[:length].tolist() for row, length in zip(*evaluation_set.prompts[:2], strict=True)]
    found = make_solver(decoder, max_depth=MAX_DEPTH, max_contexts=MAX_CONTEXTS)(params, jax.random.key(0), prompts)
    right = [
        each.answer == row[row > 0].tolist() for each, row in zip(found, evaluation_set.prompts.answers, strict=True)
    ]
    fields = {"tokens": "num_tokens", "contexts": "num_contexts", "depth": "depth"}
    figures = {name: np.array([getattr(each, field) for each in found]) for name, field in fields.items()}
    return make_subject_rows(evaluation_set.subjects, np.array(right), **figures)


def make_subject_rows(subjects: Sequence[str], is_correct: Array, **figures: Array) -> list[dict[str, Any]]:
    """How many questions there are, how many of them are right, and means of figures: by subject, then of all.

    Args:
        subjects: [R], of each question.
        is_correct: [R], 1 or 0.
        **figures: [R] by name, such as the tokens that were written; `tokens` is told as `tokens_mean`.
    """
    names, found = np.array(subjects), []
    for which in [*dict.fromkeys(subjects), "all"]:
        chosen = np.ones(len(names), bool) if which == "all" else names == which
        found.append(
            {
                "subject": which,
                "problems": int(chosen.sum()),
                "exact_percent": 100 * float(np.mean(np.asarray(is_correct, float)[chosen])),
                **{f"{name}_mean": float(np.mean(np.asarray(each)[chosen])) for name, each in figures.items()},
            }
        )
    return found
