"""Pictures of graphs and plans."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import networkx as nx
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes

from thinking.environments.planning import Evaluation, Pairs, length_ratios
from thinking.experiment import plots
from thinking.guide.plan import Plan

_LARGEST_NAMED = 64  # nodes; the names of more could not be read


def draw_length_ratios(path: Path, evaluations: Mapping[tuple[str, str], Evaluation], pairs: Pairs) -> Path:
    """How much longer than the shortest the plans are: for each set and mode, the share of all pairs at each ratio."""
    edges = np.array([1.0, 1.0001, 1.25, 1.5, 2.0, 3.0, np.inf])
    labels = ["1 (shortest)", "to 1.25", "to 1.5", "to 2", "to 3", "above 3", "not solved"]
    counted = pairs.start != pairs.goal
    figure, (panel,) = plots.figure(1, "How long the plans are")
    figure.set_size_inches(8, 4)
    width = 0.8 / len(evaluations)
    for index, ((name, mode), evaluation) in enumerate(evaluations.items()):
        counts = np.histogram(length_ratios(evaluation, pairs), edges)[0]
        shares = np.append(counts, np.sum(~evaluation.solved[counted])) / max(1, counted.sum())
        color, hatch = plots.PALETTE[index // 2 % len(plots.PALETTE)], "" if mode == "react" else "///"
        if name == "random":
            color = "#999999"
        place = np.arange(len(shares)) + width * (index + 0.5) - 0.4
        panel.bar(
            place, shares, width, label=f"{name}, {mode}", color=color, hatch=hatch, edgecolor="white", linewidth=0.3
        )
    panel.set_xticks(range(len(labels)), labels)
    panel.set_xlabel("planned hops over hops of a shortest path")
    panel.set_ylabel("share of reachable pairs")
    panel.legend(fontsize=7)
    return plots.save(figure, path)


def draw_plan(path: Path, graph: nx.DiGraph, plan: Plan, title: str) -> Path:
    """The graph, with the first plan of a batch and the sub-goals it went by."""
    figure, (panel,) = plots.figure(1, title)
    figure.set_size_inches(7, 6)
    _draw(panel, graph, plan, int(plan.hops[0]))
    return plots.save(figure, path)


def animate_plan(path: Path, graph: nx.DiGraph, plan: Plan, title: str) -> Path:
    """The same hop by hop, as a GIF of one frame a second."""
    figure, (panel,) = plots.figure(1, title)
    figure.set_size_inches(7, 6)

    def frame(hops: int) -> list:
        panel.clear()
        _draw(panel, graph, plan, hops)
        return []

    path.parent.mkdir(parents=True, exist_ok=True)
    FuncAnimation(figure, frame, frames=int(plan.hops[0]) + 1).save(path, writer=PillowWriter(fps=1), dpi=80)
    return path


def _draw(panel: Axes, graph: nx.DiGraph, plan: Plan, hops: int) -> None:
    """Draw the plan after so many hops."""
    names = list(graph)
    walked = [names[node] for node in np.asarray(plan.states[0][: hops + 1])]
    goal = names[int(plan.states[0][int(plan.hops[0])])]
    pursued = np.asarray([targets[0, : max(hops, 1)] for targets in plan.targets[:-1]])
    sub_goals = {names[node] for node in pursued.ravel()} - {goal, walked[0]}
    colours = dict.fromkeys(sub_goals, plots.PALETTE[4]) | {walked[0]: plots.PALETTE[2], goal: plots.PALETTE[1]}
    places = nx.spring_layout(graph.to_undirected(), seed=0, k=2 / len(graph) ** 0.5)
    named = len(graph) <= _LARGEST_NAMED
    nx.draw_networkx_nodes(
        graph, places, ax=panel, node_size=260 if named else 12, node_color=[colours.get(n, "#dddddd") for n in graph]
    )
    if named:
        nx.draw_networkx_edges(graph, places, ax=panel, edge_color="#dddddd", width=0.5, arrowsize=6)
        nx.draw_networkx_labels(graph, places, ax=panel, font_size=7)
    steps = list(itertools.pairwise(walked))
    nx.draw_networkx_edges(
        graph, places, ax=panel, edgelist=steps, edge_color=plots.PALETTE[0], width=2.5, arrowsize=16, node_size=260
    )
    for colour, label in ((2, "start"), (4, "sub-goals"), (1, "goal")):
        panel.scatter([], [], color=plots.PALETTE[colour], label=label)
    panel.legend(loc="lower left", fontsize=8)
    panel.set_title(" → ".join(walked), fontsize=9)
    panel.set_axis_off()
