"""Comparison of methods of several sizes at equal token budgets.

A row is a flat object of `results.json` with at least `method`, `size`, `exact_match` and `mean_tokens`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def make_outcome_row(method: str, size: int, is_correct: np.ndarray, num_tokens: np.ndarray) -> dict[str, Any]:
    """The result of a method of one size.

    Args:
        method: its name.
        size: number of samples, beam width, or another parameter of its cost.
        is_correct: [R], 1 or 0 by problem.
        num_tokens: [R], generated tokens by problem.
    """
    return {
        "method": method,
        "size": size,
        "num_problems": len(is_correct),
        "exact_match": float(np.mean(is_correct)),
        "mean_tokens": float(np.mean(num_tokens)),
    }


def select_at_budget(rows: Sequence[Mapping[str, Any]], budget: float) -> list[dict[str, Any]]:
    """The most expensive row of each method within a budget; methods without one are left out.

    The choice ignores accuracy, so it has no selection bias.

    Args:
        rows: of several methods and sizes.
        budget: mean tokens a problem.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["mean_tokens"] > budget:
            continue
        current = best.get(row["method"])
        if current is None or row["mean_tokens"] > current["mean_tokens"]:
            best[row["method"]] = row
    return [{"budget": budget, **row} for row in best.values()]


def make_budget_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curves by method: mean tokens and exact match, arrays [1, sizes] for `experiment.plots.plot_mean_and_spread`."""
    curves = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        points = sorted((row["mean_tokens"], row["exact_match"]) for row in rows if row["method"] == method)
        tokens, exact_match = np.array(points, float).T
        curves[method] = tokens[None], exact_match[None]
    return curves
