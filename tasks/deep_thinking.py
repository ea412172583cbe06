"""Thinking longer solves bigger puzzles.

A recursive network applies the same small block again and again to a latent state of each cell of a puzzle. It is
trained on small puzzles with few steps of thought, and evaluated on larger ones with more steps. Beside it: the same
without its input in view, the same trained at a fixed depth, and a feed-forward network of as many layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinking.errors import UserError
from thinking.experiment import Run, main
from thinking.recipes.deep_thinking.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from pathlib import Path

    from thinking.recipes.deep_thinking.trained import PuzzleThinker

COLUMNS = {
    "network": "network",
    "size": "size",
    "solved": "solved, %",
    "solved_std": "±, %",
    "solved_at_training_depth": "at training depth, %",
    "mean_halting_step": "steps until sure",
}
"""Headers of the columns of the table on the terminal, by name."""
METRIC_HEADERS = {
    "size": "size",
    "num_puzzles": "puzzles",
    "solved": "solved, %",
    "solved_at_training_depth": "at training depth, %",
    "mean_halting_step": "steps until sure",
}
"""Headers of the metrics that `measure` returns, by name."""


def run(config: Config, run: Run) -> None:
    """Train all networks, evaluate them over sizes and steps, and write the results."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.deep_thinking import evaluation, thinking_plots
    from thinking.recipes.deep_thinking.problem_families import make_problem, make_tests
    from thinking.recipes.deep_thinking.training import compute_depth, train_network
    from thinking.trees import count_parameters

    problem, seeds = make_problem(config), range(config.seed, config.seed + config.seeds)
    tests = make_tests(config, problem)
    trained = {name: [train_network(config, run, problem, name, seed) for seed in seeds] for name in config.networks}
    params = {name: [result.state.ema_params for result in results] for name, results in trained.items()}
    curves = {name: evaluation.compute_all_curves(config, problem, name, params[name], tests) for name in trained}
    rows = [
        evaluation.make_row(config, problem, name, size, curves[name][size], params[name], tests[size])
        for name in trained
        for size in tests
    ]
    thinking_plots.plot_step_curves(run.plots_folder / "steps.png", curves, compute_depth(config))
    plots.plot_learning_curves(run, ["loss/answer", "cell_accuracy", "exact_match"])
    size = max(tests)
    solved = {row["network"]: f"{row['solved']:.1%}" for row in rows if row["size"] == size}
    write_results(
        run,
        rows,
        {f"{name}-{seed}": result.state for name in trained for seed, result in zip(seeds, trained[name], strict=True)},
        headline=f"{config.puzzle.name} of size {size}, trained on {config.puzzle.size}, solved: "
        + ", ".join(f"{name} {share}" for name, share in solved.items()),
        columns=COLUMNS,
        num_parameters={name: count_parameters(each[0]) for name, each in params.items()},
        train_seconds={name: [result.seconds for result in results] for name, results in trained.items()},
    )
    if config.puzzle.name == "mazes" and "recursive" in trained:
        first = params["recursive"][0]
        thinking_plots.write_videos(config, run.folder / "videos", problem, first, curves["recursive"], tests)


def measure(config: Config, trained: PuzzleThinker) -> list[dict[str, Any]]:
    """A row for each size, of a network that was loaded."""
    from thinking.recipes.deep_thinking import evaluation
    from thinking.recipes.deep_thinking.problem_families import make_problem, make_tests

    problem, (name,) = make_problem(config), config.networks
    tests = make_tests(config, problem)
    curves = evaluation.compute_all_curves(config, problem, name, [trained.params], tests)
    return [
        {"num_puzzles": config.eval.num_puzzles}
        | evaluation.make_row(config, problem, name, size, curves[size], [trained.params], test)
        for size, test in tests.items()
    ]


def draw(config: Config, trained: PuzzleThinker, folder: Path) -> None:
    """Write videos of mazes being thought through."""
    from thinking.recipes.deep_thinking import evaluation, thinking_plots
    from thinking.recipes.deep_thinking.problem_families import make_problem, make_tests

    if config.puzzle.name != "mazes":
        raise UserError(f"--puzzle.name {config.puzzle.name}: mazes alone can be drawn")
    problem, (name,) = make_problem(config), config.networks
    tests = make_tests(config, problem)
    curves = evaluation.compute_all_curves(config, problem, name, [trained.params], tests)
    thinking_plots.write_videos(config, folder, problem, trained.params, curves, tests)


if __name__ == "__main__":
    main("deep_thinking", run, PRESETS, EXAMPLES)
