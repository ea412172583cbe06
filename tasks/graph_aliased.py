"""Planning with aliased observations: the effect of tags on a guide that observes no node itself.

A guide is a hierarchical goal-conditioned planner; a tag counts how often an observation was met since the goal was
set. A guide of one table is trained on random walks with true tags, with less informative or random tags, and without
tags but with more context. Each plans in a closed loop (react) from every node to every goal; hops are compared with
shortest paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinking.errors import name_flags
from thinking.experiment import Run, main
from thinking.recipes.aliased_graph.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thinking.recipes.aliased_graph.model import Condition


COLUMNS = {
    "condition": "condition",
    "max_hops": "hops",
    "solved_fraction": "solved, %",
    "solved_fraction_std": "±, %",
    "mean_length_ratio": "hops / shortest",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Train and compare all conditions, and write the results."""
    from thinking.recipes.aliased_graph.model import make_conditions

    compare(config, run, make_conditions(config.guide.num_tags))


def compare(config: Config, run: Run, conditions: Mapping[str, Condition]) -> None:
    """Train and compare these conditions in the environments of all seeds, and write the results."""
    import jax

    from thinking.experiment.plots import plot_bars
    from thinking.experiment.results import write_results
    from thinking.recipes.aliased_graph.data import make_envs
    from thinking.recipes.aliased_graph.evaluation import compute_acting_frequencies, compute_metrics, react_to_all
    from thinking.recipes.aliased_graph.training import compute_walk_frequencies, train_condition

    with name_flags(edge_probability="--graph.edge-probability"):
        envs, optimal_hops = make_envs(config.graph, range(config.seed, config.seed + config.seeds))
    key = jax.random.key(config.seed)
    # Shuffled tags have the frequencies of true tags: in training, and in acting once true tags have acted.
    on_walks = acting = compute_walk_frequencies(config, envs, key)
    rows, states = [], {}
    for name, condition in conditions.items():
        states[name] = train_condition(config, run, name, condition, envs, on_walks, key).state
        frequencies, action_key = acting, jax.random.fold_in(key, 1)
        for max_hops in config.eval.max_hops:
            plans = react_to_all(config, condition, states[name], envs, frequencies, action_key, max_hops)
            rows.append(
                {"condition": name, "mode": "react", "max_hops": max_hops, **compute_metrics(plans, optimal_hops)}
            )
            run.log(f"{name}: {rows[-1]['solved_fraction']:.1%} solved within {max_hops} hops")
            if name == "tags" and max_hops == max(config.eval.max_hops):
                acting = compute_acting_frequencies(config, envs, plans)
    by_condition = {name: [row for row in rows if row["condition"] == name] for name in conditions}
    plot_bars(
        run.plots_folder / "solved.png",
        {name: [row["solved_fraction"] for row in rows] for name, rows in by_condition.items()},
        [f"within {max_hops} hops" for max_hops in config.eval.max_hops],
        "share of pairs solved",
        errors={name: [row["solved_fraction_std"] for row in rows] for name, rows in by_condition.items()},
    )
    hops = min(config.eval.max_hops)
    solved = {row["condition"]: f"{100 * row['solved_fraction']:.1f} %" for row in rows if row["max_hops"] == hops}
    headline = f"pairs solved within {hops} hops: " + ", ".join(
        f"{name} {solved[name]}" for name in (next(iter(solved)), *list(solved)[-1:])
    )
    write_results(
        run, rows, states, headline=headline, columns=COLUMNS, seeds=config.seeds, walks=config.walks.num_walks
    )


if __name__ == "__main__":
    main("graph_aliased", run, PRESETS, EXAMPLES)
