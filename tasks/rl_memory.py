"""Policies with a memory, in environments that hide what they need.

Recurrent networks are trained by PPO to balance a pole of which they see positions and no velocities, to remember a
sign along the corridor of a T-maze, or to reach goals in a graph in which pairs of nodes look alike. A network of the
same form without a memory is trained beside them.
"""

from thinking.experiment import Run, main
from thinking.recipes.rl_memory.config import EXAMPLES, PRESETS, Config

COLUMNS = {
    "network": "network",
    "environment": "environment",
    "mean_return": "mean return",
    "std_over_seeds": "±",
    "min_over_seeds": "worst seed",
    "num_env_steps": "training steps",
    "num_eval_env_steps": "evaluation steps",
    "num_parameters": "parameters",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Train policies of every kind, evaluate them on new episodes, and write the results."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.rl_memory.evaluation import evaluate_policies
    from thinking.recipes.rl_memory.training import train_policies

    results = {network: train_policies(config, run, network) for network in config.networks}
    rows = [row for network, result in results.items() for row in evaluate_policies(config, run, network, result)]
    plots.plot_learning_curves(run, ["rollout/return", "eval/return", "entropy"])
    environments = list(dict.fromkeys(row["environment"] for row in rows))
    by_network = {name: [row for row in rows if row["network"] == name] for name in results}
    plots.plot_bars(
        run.plots_folder / "returns.png",
        {name: [row["mean_return"] for row in group] for name, group in by_network.items()},
        environments,
        "mean return",
        errors={name: [row["std_over_seeds"] for row in group] for name, group in by_network.items()},
        title="Returns on new episodes; pointwise remembers nothing",
    )
    write_results(
        run,
        rows,
        {name: result.state for name, result in results.items()},
        headline=f"mean return, {environments[0]}: "
        + ", ".join(f"{name} {group[0]['mean_return']:.3g}" for name, group in by_network.items()),
        columns=COLUMNS,
        train_seconds={name: result.seconds for name, result in results.items()},
    )


if __name__ == "__main__":
    main("rl_memory", run, PRESETS, EXAMPLES)
