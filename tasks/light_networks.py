"""Which light network can do what.

Small recurrent networks, memories, attention and hybrids are trained on problems that ask one thing each: to track the
state of an automaton, to recall, to select, to nest. All have the same number of parameters. They are evaluated at the
trained size and at multiples of it.
"""

from thinking.experiment import Run, main
from thinking.recipes.light_networks.config import EXAMPLES, PRESETS, Config


def run(config: Config, run: Run) -> None:
    """Train every network on every problem, evaluate it over sizes, and write the results."""
    from thinking.experiment.results import write_results
    from thinking.recipes.light_networks.evaluation import make_row
    from thinking.recipes.light_networks.heat_map import plot_heat_map
    from thinking.recipes.light_networks.training import choose_learning_rate, make_test, train_network

    seeds, factors = range(config.seed, config.seed + config.seeds), config.eval.factors
    rows, states = [], {}
    for problem in config.problems:
        tests = {factor: make_test(config, problem, config.seed, factor) for factor in factors}
        for name in config.networks:
            rate = choose_learning_rate(config, run, name, problem)
            results = [train_network(config, run, name, problem, seed, rate) for seed in seeds]
            rows.append(make_row(config, name, problem, rate, results, tests))
            states |= {f"{problem}-{name}-{seed}": result.state for seed, result in zip(seeds, results, strict=True)}
            run.log(
                f"{problem}, {name}: " + ", ".join(f"{rows[-1][f'accuracy_at_{factor}x']:.1%}" for factor in factors)
            )
    means = {(row["network"], row["problem"]): [row[f"accuracy_at_{factor}x"] for factor in factors] for row in rows}
    plot_heat_map(
        run.plots_folder / "heat_map.png", means, factors, f"Accuracy over sizes, {config.training.num_steps} steps"
    )
    best = [
        max((row for row in rows if row["problem"] == problem), key=lambda row: row["accuracy_at_1x"])
        for problem in config.problems
    ]
    write_results(
        run,
        rows,
        states,
        headline="most accurate at the trained size: "
        + ", ".join(f"{row['problem']} {row['network']} ({row['accuracy_at_1x']:.1%})" for row in best),
        columns={
            "problem": "problem",
            "network": "network",
            **{f"accuracy_at_{factor}x": f"{factor}x, %" for factor in factors},
            "std_at_1x": "±, %",
        },
    )


if __name__ == "__main__":
    main("light_networks", run, PRESETS, EXAMPLES)
