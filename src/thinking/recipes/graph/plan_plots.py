"""Plots of graphs and plans."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import numpy as np
from matplotlib.axes import Axes

from thinking.colors import GREY, PALE, PALETTE
from thinking.environments.graph_plans import NodePairs
from thinking.experiment import plots
from thinking.guide.plan import Plan
from thinking.recipes.graph.evaluation import Evaluation, compute_length_ratios

_MAX_NODES = 64  # more names would not be readable


def plot_length_ratios(path: Path, evaluations: Mapping[tuple[str, str], Evaluation], pairs: NodePairs) -> Path:
    """Plot the ratio of planned to optimal hops: the fraction of pairs at each ratio, for each guide and mode."""
    edges = np.array([1.0, 1.0001, 1.25, 1.5, 2.0, 3.0, np.inf])
    labels = ["1 (shortest)", "to 1.25", "to 1.5", "to 2", "to 3", "above 3", "not solved"]
    figure, (panel,) = plots.make_figure(1, "How long the plans are")
    figure.set_size_inches(8, 4)
    width = 0.8 / len(evaluations)
    names = dict.fromkeys(name for name, _ in evaluations)
    colours = dict(zip(names, itertools.cycle([GREY, *PALETTE]), strict=False))
    for index, ((name, mode), evaluation) in enumerate(evaluations.items()):
        counts = np.histogram(compute_length_ratios(evaluation, pairs), edges)[0]
        shares = np.append(counts, np.sum(~evaluation.solved)) / max(1, len(evaluation.solved))
        color, hatch = colours[name], "" if mode == "react" else "///"
        place = np.arange(len(shares)) + width * (index + 0.5) - 0.4
        panel.bar(
            place, shares, width, label=f"{name}, {mode}", color=color, hatch=hatch, edgecolor="white", linewidth=0.3
        )
    panel.set_xticks(range(len(labels)), labels)
    panel.set_xlabel("planned hops over hops of a shortest path")
    panel.set_ylabel("share of reachable pairs")
    panel.legend(fontsize=7)
    return plots.save_figure(figure, path)


class _Scene(NamedTuple):
    graph: nx.DiGraph
    places: dict[str, np.ndarray]
    colours: dict[str, str]
    visited: list[str]


def plot_plan(path: Path, graph: nx.DiGraph, plan: Plan, title: str) -> Path:
    """Plot the graph, with the first plan of a batch and its sub-goals."""
    figure, (panel,) = plots.make_figure(1, title)
    figure.set_size_inches(7, 6)
    scene = _scene(graph, plan)
    _draw(panel, scene, len(scene.visited) - 1)
    return plots.save_figure(figure, path)


def animate_plan(path: Path, graph: nx.DiGraph, plan: Plan, title: str) -> Path:
    """Animate the same hop by hop, as a GIF of one frame per second."""
    figure, (panel,) = plots.make_figure(1, title)
    figure.set_size_inches(7, 6)
    scene = _scene(graph, plan)

    def draw(hops: int) -> None:
        panel.clear()
        _draw(panel, scene, hops)

    return plots.save_animation(figure, draw, range(len(scene.visited)), path, frames_per_second=1)


def _scene(graph: nx.DiGraph, plan: Plan) -> _Scene:
    names, hops = list(graph), int(plan.hops[0])
    visited = [names[node] for node in np.asarray(plan.states[0, : hops + 1])]
    sub_goal_nodes = np.asarray([targets[0, : max(hops, 1)] for targets in plan.targets[:-1]], int)
    sub_goals = {names[node] for node in sub_goal_nodes.ravel()} - {visited[0], visited[-1]}
    shown = _surroundings(graph, visited, sub_goals)
    ends = {visited[0]: PALETTE[2], visited[-1]: PALETTE[1]}
    colours = dict.fromkeys(shown, PALE) | dict.fromkeys(sub_goals, PALETTE[4]) | ends
    places = nx.spring_layout(shown.to_undirected(), seed=0, k=2 / len(shown) ** 0.5)
    return _Scene(shown, places, colours, visited)


def _surroundings(graph: nx.DiGraph, visited: list[str], sub_goals: set[str]) -> nx.DiGraph:
    """The graph; of a large one, the neighbourhood of a plan."""
    if len(graph) <= _MAX_NODES:
        return graph
    near = [successor for node in visited for successor in graph.successors(node)]
    kept = list(dict.fromkeys([*visited, *sorted(sub_goals), *near]))
    return graph.subgraph(kept[: max(_MAX_NODES, len(visited) + len(sub_goals))])


def _draw(panel: Axes, scene: _Scene, hops: int) -> None:
    graph, places, visited = scene.graph, scene.places, scene.visited[: hops + 1]
    nx.draw_networkx_nodes(graph, places, ax=panel, node_size=260, node_color=[scene.colours[name] for name in graph])
    nx.draw_networkx_edges(graph, places, ax=panel, edge_color=PALE, width=0.5, arrowsize=6)
    nx.draw_networkx_labels(graph, places, {name: plots.escape(name) for name in graph}, ax=panel, font_size=7)
    bold = {"edge_color": PALETTE[0], "width": 2.5, "arrowsize": 16, "node_size": 260}
    nx.draw_networkx_edges(graph, places, ax=panel, edgelist=list(itertools.pairwise(visited)), **bold)
    for colour, label in ((2, "start"), (4, "sub-goals"), (1, "goal")):
        panel.scatter([], [], color=PALETTE[colour], label=label)
    panel.legend(loc="lower left", fontsize=8)
    panel.set_title(plots.escape(" → ".join(visited)), fontsize=9)
    panel.set_axis_off()
