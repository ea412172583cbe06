"""Planning on a graph by guides that are trained on random walks alone.

A guide is a hierarchical goal-conditioned planner. Four guides (a table, a linear memory, and two transformers with
different choices of sub-goals) plan between all connected pairs of nodes of a directed graph, in a closed loop (react)
and in an open loop (think). They are compared with a random planner and with shortest paths.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from thinking.errors import name_flags
from thinking.experiment import Run, main
from thinking.recipes.graph.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from networkx import DiGraph

    from thinking.environments.graph import Graph
    from thinking.environments.graph_plans import NodePairs
    from thinking.guide import Guide, GuideState
    from thinking.recipes.graph.evaluation import Evaluation
    from thinking.recipes.graph.planners import Planner
    from thinking.recipes.graph.trained import GraphGuide

FLAGS = {
    "path": "--graph.path",
    "num_nodes": "--graph.num-nodes",
    "edge_probability": "--graph.edge-probability",
    "name": "--plan",
}
"""The flags of a graph's arguments."""
COLUMNS = {
    "guide": "guide",
    "mode": "mode",
    "solved_fraction": "solved, %",
    "mean_length_ratio": "hops / shortest",
    "plans_per_second": "plans a second",
}
"""Headers of the columns of the table on the terminal, by name."""
METRIC_HEADERS = {name: header for name, header in COLUMNS.items() if name != "plans_per_second"} | {
    "num_pairs": "pairs"
}
"""Headers of the metrics that `measure` returns, by name."""
Planners = dict[tuple[str, str], "Planner"]
"""Planners by guide and mode."""


def run(config: Config, run: Run) -> None:
    """Train the guides, plan between all pairs, and write the results."""
    from thinking.environments.graph import find_node, make_graph, to_device
    from thinking.environments.graph_plans import find_reachable_pairs
    from thinking.experiment.results import write_results
    from thinking.recipes.graph.evaluation import compute_metrics, compute_optimum_metrics, evaluate
    from thinking.recipes.graph.model import make_guide
    from thinking.recipes.graph.training import train_guide

    with name_flags(**FLAGS):
        settings = config.graph
        graph = make_graph(
            settings.path, settings.num_nodes, settings.edge_probability, config.seed, undirected=settings.undirected
        )
        endpoints = [find_node(graph, name) for name in config.plan or ()]
    device_graph, pairs = to_device(graph), find_reachable_pairs(graph)
    longest = int(pairs.optimal_hops.max())
    if settings.path is not None:
        run.log(describe_graph(settings.path, graph))
    max_hops = config.eval.max_hops or max(64, 2 * longest)
    num_states = config.walks.num_states or min(max(longest + 3, 8), 64)
    if num_states <= longest:
        run.log(
            f"walks of {num_states} states never join pairs that are {num_states} to {longest} hops apart, so no guide "
            f"learns these as one; --walks.num-states {longest + 3} joins all, and takes longer"
        )
    guides = {name: make_guide(config, name, len(graph)) for name in config.guides}
    trained = {
        name: train_guide(config, run, name, guides[name], device_graph, pairs, num_states) for name in config.guides
    }
    states = {name: stage.state for name, stage in trained.items()}
    planners = make_planners(guides, states, device_graph, max_hops, config.seed)
    if endpoints:
        return print_plans(graph, device_graph, planners, endpoints)

    evaluations = {key: evaluate(device_graph, planner, pairs) for key, planner in planners.items()}
    draw_plots(run, graph, planners, evaluations, pairs)
    rows = [
        {"guide": name, "mode": mode, **compute_metrics(evaluation, pairs)}
        for (name, mode), evaluation in evaluations.items()
    ]
    rows.append({"guide": "optimum", "mode": "networkx", **compute_optimum_metrics(pairs)})
    write_results(
        run,
        rows,
        states,
        headline=describe_best(rows),
        columns=COLUMNS,
        next_steps=[shlex.join(["plan", "RUN", *list(graph)[:: len(graph) - 1]])],
        train_seconds=sum(stage.seconds for stage in trained.values()),
        compile_seconds=sum(stage.compile_seconds for stage in trained.values()),
        train_seconds_by_guide={name: stage.seconds for name, stage in trained.items()},
        num_nodes=len(graph),
        num_edges=graph.number_of_edges(),
        num_unreachable_pairs=pairs.num_unreachable,
        longest_shortest_path_hops=longest,
        num_walk_states=num_states,
        max_hops=max_hops,
    )


def describe_best(rows: Sequence[Mapping[str, Any]]) -> str:
    """The best guide in a sentence, beside random edges."""
    random, *guides, _ = rows
    best = max(guides, key=lambda row: row["solved_fraction"])
    return (
        f"{best['guide']} ({best['mode']}) solves {100 * best['solved_fraction']:.1f} % of {best['num_pairs']} pairs, "
        f"random edges {100 * random['solved_fraction']:.1f} %"
    )


def describe_graph(path: Path, graph: DiGraph) -> str:
    """How a file was read, and what is in it."""
    import networkx as nx

    components = nx.number_weakly_connected_components(graph)
    return (
        f"{path}: read as {graph.graph['source']}; {len(graph)} nodes, {graph.number_of_edges()} directed edges, "
        f"{components} component{'s' if components > 1 else ''}"
    )


def make_planners(
    guides: Mapping[str, Guide], states: Mapping[str, GuideState], device_graph: Graph, max_hops: int, seed: int
) -> Planners:
    """The random planner, and each guide in both modes."""
    import jax

    from thinking.recipes.graph.planners import random_planner, react_planner, think_planner

    planners = {("random", "react"): random_planner(device_graph, jax.random.key(seed), max_hops)}
    for name, guide in guides.items():
        planners[name, "react"] = react_planner(guide, states[name], max_hops, device_graph)
        planners[name, "think"] = think_planner(guide, states[name], max_hops)
    return planners


def draw_plots(
    run: Run,
    graph: DiGraph,
    planners: Planners,
    evaluations: Mapping[tuple[str, str], Evaluation],
    pairs: NodePairs,
) -> None:
    """Plot learning curves, length ratios of plans, and the plan of the farthest solved pair."""
    from thinking.experiment import plots
    from thinking.recipes.graph import plan_plots
    from thinking.recipes.graph.evaluation import find_hardest_solved

    plots.plot_learning_curves(run, ["eval/solved_fraction", "layer_0/loss/value", "layer_0/loss/score"])
    plan_plots.plot_length_ratios(run.plots_folder / "length_ratios.png", evaluations, pairs)
    thinking = [name for name, mode in planners if mode == "think"]
    shown = "skip_transformer" if "skip_transformer" in thinking else thinking[0]
    if (hardest := find_hardest_solved(evaluations[shown, "think"], pairs)) is not None:
        plan = planners[shown, "think"](*hardest)
        plan_plots.plot_plan(run.plots_folder / "plan.png", graph, plan, f"{shown}, think")
        plan_plots.animate_plan(run.plots_folder / "plan.gif", graph, plan, f"{shown}, think")


def print_plans(graph: DiGraph, device_graph: Graph, planners: Planners, endpoints: list[int]) -> None:
    """Print the open-loop plan of each guide, hop by hop."""
    import jax.numpy as jnp

    from thinking import progress
    from thinking.environments.graph_plans import is_valid_plan
    from thinking.experiment.tables import print_rows
    from thinking.recipes.graph.evaluation import describe, run_planner

    for (name, mode), planner in planners.items():
        if mode != "think":
            continue
        plan = run_planner(planner, *(jnp.array([node]) for node in endpoints))
        arrives = is_valid_plan(device_graph, plan.states, plan.hops, plan.arrived)[0]
        progress.log(f"{name}: {'arrives' if arrives else 'does NOT arrive'} after {int(plan.hops[0])} hops")
        print_rows(describe(device_graph, list(graph), plan))


def use(config: Config, trained: GraphGuide) -> None:
    """Print the plan of a guide that was loaded."""
    from thinking.environments.graph import find_node, to_device

    graph, planners = make_trained_planners(config, trained, ("think",))
    with name_flags(**FLAGS):
        endpoints = [find_node(graph, name) for name in config.plan or ()]
    print_plans(graph, to_device(graph), planners, endpoints)


def measure(config: Config, trained: GraphGuide) -> list[dict[str, Any]]:
    """Rows of plans between all pairs, in both modes."""
    from thinking.environments.graph import to_device
    from thinking.environments.graph_plans import find_reachable_pairs
    from thinking.recipes.graph.evaluation import compute_metrics, evaluate

    graph, planners = make_trained_planners(config, trained, ("react", "think"))
    device_graph, pairs = to_device(graph), find_reachable_pairs(graph)
    return [
        {"guide": name, "mode": mode, **compute_metrics(evaluate(device_graph, planner, pairs), pairs)}
        for (name, mode), planner in planners.items()
    ]


def draw(config: Config, trained: GraphGuide, folder: Path) -> None:
    """Write a picture and a video of a plan."""
    import jax.numpy as jnp

    from thinking.recipes.graph import plan_plots
    from thinking.recipes.graph.evaluation import run_planner

    graph, planners = make_trained_planners(config, trained, ("think",))
    ((name, mode), planner) = next(iter(planners.items()))
    plan = run_planner(planner, jnp.array([0]), jnp.array([len(graph) - 1]))
    plan_plots.plot_plan(folder / "plan.png", graph, plan, f"{name}, {mode}")
    plan_plots.animate_plan(folder / "plan.gif", graph, plan, f"{name}, {mode}")


def make_trained_planners(config: Config, trained: GraphGuide, modes: Sequence[str]) -> tuple[DiGraph, Planners]:
    """The graph of a guide that was loaded, and its planners."""
    from thinking.environments.graph import make_graph, to_device
    from thinking.recipes.graph.planners import react_planner, think_planner
    from thinking.recipes.graph.trained import MAX_HOPS

    graph = make_graph(None, config.graph.num_nodes, config.graph.edge_probability, config.seed)
    (name,), max_hops, planners = config.guides, config.eval.max_hops or MAX_HOPS, {}
    if "react" in modes:
        planners[name, "react"] = react_planner(trained.model, trained.params, max_hops, to_device(graph))
    planners[name, "think"] = think_planner(trained.model, trained.params, max_hops)
    return graph, planners


if __name__ == "__main__":
    main("simple", run, PRESETS, EXAMPLES)
