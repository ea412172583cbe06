"""Examining a model: all questions are answered in batches of one shape, and what is right is counted by subject.

Axes: R questions, P tokens of the longest prompt, N of the longest completion.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from thinking.trees import take
from thinking.types import Array


def in_batches(function: Callable[..., Any], arrays: Any, batch: int) -> Any:
    """What a jitted function of rows says of many rows, called with so many of them at a time.

    Args:
        function: `function(arrays) -> PyTree` of arrays [batch, ...]; rows are independent.
        arrays: a PyTree of arrays [R, ...]. The last batch is filled up with its last row.
        batch: rows of a call.

    Returns:
        A PyTree of NumPy arrays [R, ...].
    """
    rows = len(jax.tree.leaves(arrays)[0])
    found = []
    for first in range(0, rows, batch):
        chosen = np.minimum(np.arange(first, first + batch), rows - 1)
        found.append(jax.device_get(function(take(arrays, chosen))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:rows], *found)


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
