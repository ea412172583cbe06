"""Methods of several sizes, compared at equal budgets."""

import numpy as np
import pytest

from thinking.reasoning.search.budgets import make_budget_curves, make_outcome_row, select_at_budget

ROWS = [
    make_outcome_row("greedy", 1, np.array([1, 0, 0, 1]), np.array([10, 20, 10, 20])),
    make_outcome_row("vote", 4, np.array([1, 1, 1, 1]), np.array([60, 60, 60, 60])),
    make_outcome_row("vote", 2, np.array([1, 0, 1, 1]), np.array([30, 30, 30, 30])),
    make_outcome_row("vote", 8, np.array([0, 1, 1, 1]), np.array([120, 120, 120, 124])),
]


def test_outcome_row_has_accuracy_and_mean_tokens():
    assert ROWS[0] == {"method": "greedy", "size": 1, "num_problems": 4, "exact_match": 0.5, "mean_tokens": 15.0}


@pytest.mark.parametrize(
    ("budget", "sizes"),
    [(14, {}), (30, {"greedy": 1, "vote": 2}), (120, {"greedy": 1, "vote": 4}), (200, {"greedy": 1, "vote": 8})],
)
def test_select_at_budget_takes_the_largest_size_within_the_budget(budget, sizes):
    result = select_at_budget(ROWS, budget)
    assert {row["method"]: row["size"] for row in result} == sizes
    assert all(row["budget"] == budget for row in result)


def test_budget_curves_are_sorted_by_tokens():
    result = make_budget_curves(ROWS)
    assert list(result) == ["greedy", "vote"]
    np.testing.assert_array_equal(result["vote"][0], [[30, 60, 121]])
    np.testing.assert_array_equal(result["vote"][1], [[0.75, 1, 0.75]])
