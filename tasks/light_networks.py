"""Which light network can do what.

Small recurrent networks, memories, attention and hybrids are trained on problems that ask one thing each: to track the
state of an automaton, to recall, to select, to nest. All have the same number of parameters. They are evaluated at the
trained size and at multiples of it.
"""

from thinking.experiment import Run, main
from thinking.recipes.light_networks.config import EXAMPLES, PRESETS, Config


def run(config: Config, run: Run) -> None:
    """Train every network on every problem, evaluate it over sizes, and write the results."""
    import jax
    import numpy as np

    from thinking.experiment.results import write_results
    from thinking.recipes.light_networks import evaluation
    from thinking.recipes.light_networks.heat_map import plot_heat_map
    from thinking.recipes.light_networks.model import build_network
    from thinking.recipes.light_networks.problems import make_problem
    from thinking.recipes.light_networks.training import choose_learning_rate, make_test, train_network
    from thinking.trees import count_parameters

    seeds, factors = range(config.seed, config.seed + config.seeds), config.eval.factors
    rows, means, states = [], {}, {}
    for problem in config.problems:
        family, size = make_problem(config, problem)
        tests = {factor: make_test(config, problem, config.seed, factor) for factor in factors}
        for name in config.networks:
            network = build_network(config, name, problem)
            rate = choose_learning_rate(config, run, name, problem)
            results = [train_network(config, run, name, problem, seed, rate) for seed in seeds]
            params = [result.state.train_state.params for result in results]
            accuracies = np.array(
                [
                    [100 * evaluation.compute_accuracy(network, each, tests[factor]) for factor in factors]
                    for each in params
                ]
            )
            means[name, problem] = accuracies.mean(axis=0)
            num_tokens = family.count_tokens(size)
            seconds = sum(result.seconds for result in results)
            rows.append(
                {"problem": problem, "network": name}
                | {f"at_{factor}x_percent": mean for factor, mean in zip(factors, means[name, problem], strict=True)}
                | {
                    "std_at_1x": accuracies[:, 0].std(),
                    "worst_at_1x": accuracies[:, 0].min(),
                    "learning_rate": rate,
                    "num_parameters": count_parameters(jax.eval_shape(lambda params=params: params[0])),
                    "state_bytes": evaluation.count_state_bytes(network, num_tokens),
                    "train_tokens_per_second": num_tokens
                    * config.training.batch_size
                    * config.training.num_steps
                    * len(results)
                    / max(seconds, 1e-9),
                    "generated_tokens_per_second": evaluation.measure_generation(network, params[0], num_tokens),
                    "accuracies": accuracies,
                }
            )
            states |= {f"{problem}-{name}-{seed}": result.state for seed, result in zip(seeds, results, strict=True)}
            run.log(f"{problem}, {name}: " + ", ".join(f"{x:.1f} %" for x in means[name, problem]))
    plot_heat_map(
        run.plots_folder / "heat_map.png", means, factors, f"Accuracy over sizes, {config.training.num_steps} steps"
    )
    accuracies = [{key: row[key] for key in ("problem", "network", "accuracies")} for row in rows]
    best = {
        row["problem"]: max(
            rows, key=lambda other, name=row["problem"]: (other["problem"] == name, other["at_1x_percent"])
        )
        for row in rows
    }
    write_results(
        run,
        [{key: value for key, value in row.items() if key != "accuracies"} for row in rows],
        states,
        headline="most accurate at the trained size: "
        + ", ".join(f"{problem} {row['network']} ({row['at_1x_percent']:.1f} %)" for problem, row in best.items()),
        columns={
            "problem": "problem",
            "network": "network",
            **{f"at_{factor}x_percent": f"% at {factor}x" for factor in factors},
            "std_at_1x": "± at 1x",
            "state_bytes": "state, bytes",
        },
        accuracies=accuracies,
    )


if __name__ == "__main__":
    main("light_networks", run, PRESETS, EXAMPLES)
