"""Thinking longer solves bigger puzzles.

A recursive network applies the same small block again and again to a latent state of each cell of a puzzle. It is
trained on small puzzles with few steps of thought, and evaluated on larger ones with more steps. Beside it: the same
without its input in view, the same trained at a fixed depth, and a feed-forward network of as many layers.
"""

from thinking.experiment import Run, main
from thinking.recipes.deep_thinking.config import EXAMPLES, PRESETS, Config


def run(config: Config, run: Run) -> None:
    """Train all networks, evaluate them over sizes and steps, and write the results."""
    import jax
    import numpy as np

    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.deep_thinking import evaluation, thinking_plots
    from thinking.recipes.deep_thinking.problems import make_problem
    from thinking.recipes.deep_thinking.training import build_network, compute_depth, train_network
    from thinking.trees import count_parameters

    problem, depth, seeds = make_problem(config), compute_depth(config), range(config.seed, config.seed + config.seeds)
    test_key = jax.random.fold_in(jax.random.key(config.seed), 2**31)  # beyond all training steps
    tests = {
        size: problem.sample_test(jax.random.fold_in(test_key, size), config.eval.num_puzzles, size)
        for size in config.eval.sizes
    }
    trained = {name: [train_network(config, run, problem, name, seed) for seed in seeds] for name in config.networks}
    rows, curves = [], {}
    for name, results in trained.items():
        network = build_network(config, problem, name)
        max_steps = 1 if name == "feed_forward" else config.eval.max_steps
        training_depth = 1 if name == "feed_forward" else depth
        curves[name] = {
            size: [
                evaluation.compute_step_curves(network, result.state.ema_params, test, max_steps) for result in results
            ]
            for size, test in tests.items()
        }
        for size, test in tests.items():
            row = evaluation.make_row(name, size, training_depth, curves[name][size])
            if config.eval.num_rollouts > 1 and name == "recursive":
                row["rollouts_percent"] = 100 * np.mean(
                    [
                        evaluation.compute_rollout_accuracy(
                            network,
                            result.state.ema_params,
                            test,
                            test_key,
                            num_rollouts=config.eval.num_rollouts,
                            noise=max(config.thinking.noise, 1.0),
                            max_steps=config.eval.max_steps,
                        )
                        for result in results
                    ]
                )
            rows.append(row)
    thinking_plots.plot_step_curves(run.plots_folder / "steps.png", curves, depth)
    plots.plot_learning_curves(run, ["loss/answer", "cell_accuracy", "exact_match"])
    write_results(
        run,
        rows,
        {f"{name}-{seed}": result.state for name in trained for seed, result in zip(seeds, trained[name], strict=True)},
        num_parameters={name: count_parameters(results[0].state.ema_params) for name, results in trained.items()},
        train_seconds={name: [result.seconds for result in results] for name, results in trained.items()},
    )
    if config.puzzle.name == "mazes" and "recursive" in trained:
        size = config.eval.sizes[len(config.eval.sizes) // 2]
        network, params = build_network(config, problem, "recursive"), trained["recursive"][0].state.ema_params
        num_steps = int(curves["recursive"][size][0].halting_step[0])
        thinking_plots.write_maze_video(
            run.folder / "videos" / "maze.gif",
            np.asarray(tests[size].inputs.neighbors[0, 0]),
            np.asarray(tests[size].inputs.features[0].argmax(axis=0)),
            evaluation.trace_probabilities(network, params, tests[size], num_steps),
            f"A maze of {size} x {size} cells, trained on {config.puzzle.size} x {config.puzzle.size}",
        )


if __name__ == "__main__":
    main("deep_thinking", run, PRESETS, EXAMPLES)
