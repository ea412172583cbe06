"""Comparing methods of several sizes at equal budgets of tokens.

A row is a flat object, as `results.json` holds them: `method`, `size`, `exact_percent` and `tokens_mean` among others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def make_outcome_row(method: str, size: int, is_correct: np.ndarray, num_tokens: np.ndarray) -> dict[str, Any]:
    """What a method of one size came to.

    Args:
        method: its name.
        size: its attempts, width, or whatever makes it cost more.
        is_correct: [R], 1 or 0 for each problem.
        num_tokens: [R], tokens written for each problem.
    """
    return {
        "method": method,
        "size": size,
        "problems": len(is_correct),
        "exact_percent": 100 * float(np.mean(is_correct)),
        "tokens_mean": float(np.mean(num_tokens)),
    }


def select_at_budget(rows: Sequence[Mapping[str, Any]], budget: float) -> list[dict[str, Any]]:
    """Of each method the row that spends the most within a budget; a method without any is left out.

    What is chosen by does not look at what was right, so nothing is picked because it happened to do well.

    Args:
        rows: of several methods and sizes.
        budget: mean tokens for a problem.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["tokens_mean"] > budget:
            continue
        known = best.get(row["method"])
        if known is None or row["tokens_mean"] > known["tokens_mean"]:
            best[row["method"]] = row
    return [{"budget": budget, **row} for row in best.values()]


def make_budget_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Percent right over mean tokens, by method, as `experiment.plots.plot_mean_and_spread` draws them: arrays [1, sizes]."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        points = sorted((row["tokens_mean"], row["exact_percent"]) for row in rows if row["method"] == method)
        tokens, right = np.array(points, float).T
        found[method] = tokens[None], right[None]
    return found
