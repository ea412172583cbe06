"""Evaluation: exact match of greedy answers to R held-out problems."""

import functools
from collections.abc import Callable, Sequence
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
"""Problems per batch."""
MAX_DEPTH, MAX_CONTEXTS = 12, 512
"""Maximum nesting and number of the contexts of a problem with sub-tasks."""


def evaluate_exact_match(
    decoder: Decoder,
    params: Params,
    evaluation_set: EvaluationSet,
    max_new_tokens: int,
    *,
    use_digit_positions: bool = False,
) -> list[dict[str, Any]]:
    """Rows by subject; each problem is answered in one context.

    Args:
        decoder: a decoder.
        params: its parameters.
        evaluation_set: the problems.
        max_new_tokens: maximum tokens of a completion, thought included.
        use_digit_positions: give the decoder coordinates of `digit_positions`.
    """
    is_correct, length = apply_in_batches(
        functools.partial(_make_answer_fn(decoder, max_new_tokens, use_digit_positions), params),
        evaluation_set.prompts,
        min(BATCH_SIZE, len(evaluation_set.problems)),
    )
    return make_subject_rows(evaluation_set.subjects, is_correct, tokens=length)


@functools.lru_cache(maxsize=8)
def _make_answer_fn(decoder: Decoder, max_new_tokens: int, use_digit_positions: bool) -> Callable:
    """`answer(params, prompts) -> (is_correct, length)`, jitted and cached: all models of a run share one program."""
    position_options = {"locate": locate, "num_coordinates": NUM_COORDINATES} if use_digit_positions else {}

    def answer(params: Params, prompts: PromptArrays) -> tuple[Array, Array]:
        completions = generate(
            decoder,
            params,
            jax.random.key(0),  # unused at temperature 0
            prompts.tokens,
            prompts.lengths,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=0.0),
            stop_tokens=(END,),
            **position_options,
        )
        return outcome_reward(prompts.tokens, completions, answers=prompts.answers), completions.length

    return jax.jit(answer)


def evaluate_with_subtasks(decoder: Decoder, params: Params, evaluation_set: EvaluationSet) -> list[dict[str, Any]]:
    """Rows by subject, with the mean number and depth of contexts; each sub-task is solved in its own context.

    The decoder was trained on the `subtasks` style.
    """
    prompts = [row[:length].tolist() for row, length in zip(*evaluation_set.prompts[:2], strict=True)]
    solutions = make_solver(decoder, max_depth=MAX_DEPTH, max_contexts=MAX_CONTEXTS)(params, jax.random.key(0), prompts)
    is_correct = [
        solution.answer == row[row > 0].tolist()
        for solution, row in zip(solutions, evaluation_set.prompts.answers, strict=True)
    ]
    fields = {"tokens": "num_tokens", "contexts": "num_contexts", "depth": "depth"}
    figures = {name: np.array([getattr(solution, field) for solution in solutions]) for name, field in fields.items()}
    return make_subject_rows(evaluation_set.subjects, np.array(is_correct), **figures)


def make_subject_rows(subjects: Sequence[str], is_correct: Array, **figures: Array) -> list[dict[str, Any]]:
    """Number of problems, exact match, and means of further figures: by subject, then of all.

    Args:
        subjects: [R].
        is_correct: [R], 1 or 0.
        **figures: [R] each; `tokens` becomes the column `mean_tokens`.
    """
    names, rows = np.array(subjects), []
    for which in [*dict.fromkeys(subjects), "all"]:
        chosen = np.ones(len(names), bool) if which == "all" else names == which
        rows.append(
            {
                "subject": which,
                "num_problems": int(chosen.sum()),
                "exact_match": float(np.mean(np.asarray(is_correct, float)[chosen])),
                **{f"mean_{name}": float(np.mean(np.asarray(values)[chosen])) for name, values in figures.items()},
            }
        )
    return rows
