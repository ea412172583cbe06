"""Unsupervised thoughts on serial problems.

A word is the input of an automaton (the product of n elements of a group, a sum, a walk); the answer is the final
state, which takes n serial steps. Four models with the same parameters are trained on answers alone: without thoughts,
with pause tokens, with discrete thinking tokens, and with continuous thoughts. Word lengths grow by a curriculum; all
models are also evaluated on longer words than in training.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from thinking.experiment import Run, main
from thinking.recipes.think_tokens.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from thinking.recipes.think_tokens.trained import Thinker

METRIC_HEADERS = {"length": "length of words", "num_words": "words", "exact_match": "right, %"}
"""Headers of the metrics that `measure` returns, by name."""


def run(config: Config, run: Run) -> None:
    """Train and evaluate a model of every kind and seed, plot its thoughts, and write the results."""
    import numpy as np

    from thinking.environments.automata import make_automaton
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.think_tokens import evaluation, thought_plots
    from thinking.recipes.think_tokens.model import build_thinking_model
    from thinking.recipes.think_tokens.training import make_stage_name, sample_recorded_words, train_models
    from thinking.trees import count_parameters

    problem, num_words = config.problem, config.eval.num_words
    machine, seeds = make_automaton(problem.name), range(config.seed, config.seed + config.seeds)
    trained = train_models(config, run)
    stages = {make_stage_name(*key): stage for key, stage in trained.items()}
    models = {
        make_stage_name(kind, seed): (build_thinking_model(config, kind), stage.state.train_state.params)
        for (kind, seed), stage in trained.items()
    }
    size = {"seed": config.seed, "max_length": problem.test_length or 2 * problem.length, "num_words": num_words}
    exact = {name: evaluation.compute_accuracy_by_length(*model, machine, **size) for name, model in models.items()}
    words = evaluation.sample_test_words(machine, config.seed, problem.length, problem.length, num_words)
    figures = {name: evaluation.compute_metrics(*model, words, machine) for name, model in models.items()}

    names = {kind: [make_stage_name(kind, seed) for seed in seeds] for kind in config.thoughts}
    by_kind = {kind: np.array([exact[name] for name in names[kind]]) for kind in names}
    thought_plots.plot_accuracy_by_length(run.plots_folder / "lengths.png", by_kind, problem.length)
    evaluation.plot_thoughts(run, {kind: models[names[kind][0]] for kind in names}, words, machine)
    plots.plot_learning_curves(run, ["loss/answer", "exact_match", "curriculum/num_unlocked"])
    evaluation.write_page(run, {kind: names[kind][0] for kind in names}, sample_recorded_words(config), machine)
    rows = [
        evaluation.make_row(kind, by_kind[kind], problem.length, [figures[name] for name in names[kind]])
        for kind in names
    ]
    accuracy = f"exact_match_at_{problem.length}"
    write_results(
        run,
        rows,
        {name: stage.state for name, stage in stages.items()},
        headline=f"right answers to words of length {problem.length}: "
        + ", ".join(f"{row['thoughts']} {100 * row[accuracy]:.1f} %" for row in rows),
        columns={
            "thoughts": "thoughts",
            **{
                name: f"n = {name.rpartition('_')[2]}, %"
                for name in rows[0]
                if re.fullmatch(r"exact_match_at_\d+", name)
            },
            "mean_num_steps": "steps of thought",
            "thought_purity": "purity of thoughts",
        },
        exact_match_by_length=exact,
        num_parameters=count_parameters(next(iter(models.values()))[1]),
        train_seconds={name: stage.seconds for name, stage in stages.items()},
        compile_seconds={name: stage.compile_seconds for name, stage in stages.items()},
    )


def measure(config: Config, trained: Thinker) -> list[dict[str, Any]]:
    """A row of right answers by length, of a model that was loaded."""
    from thinking.recipes.think_tokens.evaluation import compute_accuracy_by_length

    problem = config.problem
    max_length = problem.test_length or 2 * problem.length
    size = {"seed": config.seed, "max_length": max_length, "num_words": config.eval.num_words}
    exact = compute_accuracy_by_length(trained.model, trained.params, trained.automaton, **size)
    lengths = sorted({min(length, max_length) for length in (2, problem.length, 3 * problem.length // 2, max_length)})
    return [{"length": length, "num_words": size["num_words"], "exact_match": exact[length - 1]} for length in lengths]


if __name__ == "__main__":
    main("think_tokens", run, PRESETS, EXAMPLES)
