"""Evaluation with sub-tasks: exact match and cost by subject."""

import numpy as np
import pytest

from thinking.environments.arithmetic.problems import format_answer
from thinking.reasoning.search.subtasks import SOLVED, TOO_DEEP, SubtaskContext, SubtaskSolution
from thinking.recipes.arithmetic import evaluation
from thinking.recipes.arithmetic.datasets import make_evaluation_set
from thinking.recipes.arithmetic.rows import VOCABULARY


def test_subtask_evaluation_averages_by_subject(monkeypatch):
    evaluation_set = make_evaluation_set(
        ("add:2", "multiply:3"), "subtasks", num_problems=4, seed=0, verbal_fraction=0.0
    )
    references = [VOCABULARY.encode(format_answer(problem)) for problem in evaluation_set.problems]
    # Sums use one context, and all but one are correct. Products use 7 contexts, and half have no answer.
    answers = [[*references[0], references[0][0]], *references[1:4], *references[4:6], [], []]
    solutions = [
        SubtaskSolution(
            answer,
            SOLVED if answer else TOO_DEEP,
            1 if index < 4 else 7,
            1 if index < 4 else 3,
            10 + index,
            SubtaskContext(()),
        )
        for index, answer in enumerate(answers)
    ]

    def make_stub_solver(model, **limits):
        def solve(params, key, prompts):
            expected = [
                evaluation_set.prompts.tokens[row, : evaluation_set.prompts.lengths[row]].tolist() for row in range(8)
            ]
            assert prompts == expected
            return solutions

        return solve

    monkeypatch.setattr(evaluation, "make_solver", make_stub_solver)
    rows = {row["subject"]: row for row in evaluation.evaluate_with_subtasks(None, None, evaluation_set)}
    assert list(rows) == ["add:2", "multiply:3", "all"]
    assert [row["exact_match"] for row in rows.values()] == [0.75, 0.5, 0.625]
    assert [row["mean_contexts"] for row in rows.values()] == [1, 7, 4]
    assert [row["mean_depth"] for row in rows.values()] == [1, 3, 2]
    assert [row["mean_tokens"] for row in rows.values()] == pytest.approx([11.5, 15.5, np.mean(range(10, 18))])


def test_subject_rows_average_metrics_by_subject():
    metrics = {"tokens": np.array([4, 2, 6, 8]), "depth": np.array([1, 3, 1, 1])}
    rows = evaluation.make_subject_rows(["add", "divide", "add", "add"], np.array([1, 0, 1, 0]), **metrics)
    assert [row["subject"] for row in rows] == ["add", "divide", "all"]
    assert [row["num_problems"] for row in rows] == [3, 1, 4]
    assert [row["exact_match"] for row in rows] == pytest.approx([2 / 3, 0, 0.5])
    assert [row["mean_tokens"] for row in rows] == [6, 2, 5]
    assert [row["mean_depth"] for row in rows] == [1, 3, 1.5]
