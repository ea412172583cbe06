"""A comparison of search methods: the fraction of problems solved, against the tokens generated."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thinking.experiment import Run, plots
from thinking.experiment.tables import print_rows
from thinking.reasoning.post_training.rewards import outcome_reward
from thinking.reasoning.search.budgets import make_budget_curves, select_at_budget
from thinking.recipes.arithmetic.datasets import EvaluationSet
from thinking.recipes.arithmetic.searches import SearchModel, compare_methods


def compare_searches(
    run: Run,
    name: str,
    search_model: SearchModel,
    examples: EvaluationSet,
    *,
    num_problems: int,
    num_samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of every method at several sizes; also plots them, and prints those of an equal budget.

    Args:
        run: receives the plot.
        name: of the model.
        search_model: the model.
        examples: held-out problems.
        num_problems: problems drawn; all if there are fewer.
        num_samples: maximum completions of a problem.
        seed: of all draws.
    """
    chosen = np.random.default_rng(seed).permutation(len(examples.problems))[:num_problems]
    prompts = jax.tree.map(lambda leaf: leaf[chosen], examples.prompts)
    problems = [examples.problems[index] for index in chosen]

    def is_correct(solutions: Any) -> np.ndarray:
        return np.asarray(outcome_reward(prompts.tokens, jax.tree.map(jnp.asarray, solutions), answers=prompts.answers))

    rows = compare_methods(
        search_model, jax.random.key(seed), problems, prompts.tokens, prompts.lengths, is_correct, num_samples
    )
    greedy, *others = rows
    labels = "tokens generated for a problem", f"exact match (dashed: greedy, {greedy['mean_tokens']:.0f} tokens)"
    plots.plot_mean_and_spread(
        run.plots_folder / f"search_{name}.png", make_budget_curves(others), *labels, round(greedy["exact_match"], 3)
    )
    run.log(f"{name}: within {num_samples} times the tokens of a greedy answer, and 5 % more")
    print_rows(select_at_budget(rows, 1.05 * num_samples * greedy["mean_tokens"]))
    return [{"model": name, **row} for row in rows]
