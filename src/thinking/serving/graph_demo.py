"""Plans on a graph between two nodes that one clicks, with their sub-goals."""

import itertools
from typing import Annotated, Any, NamedTuple

import networkx as nx
import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from thinking.environments.graph import make_graph
from thinking.errors import UserError
from thinking.recipes.graph.trained import GraphGuide

MAX_NODES = 100
WIDTH, HEIGHT = 900, 620
"""Width and height of the drawing, in its own units."""
_MARGIN = 30
_RADIUS = 18


class GraphRequest(TypedDict):
    """The numbers of two nodes."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    start: Annotated[int, Field(ge=0, lt=MAX_NODES)]
    goal: Annotated[int, Field(ge=0, lt=MAX_NODES)]


SCHEMA = GraphRequest
"""The schema of a request."""


class Planning(NamedTuple):
    """A guide, its graph, and where its nodes are drawn."""

    guide: GraphGuide
    graph: nx.DiGraph
    places: dict[str, np.ndarray]


def open_model(guide: GraphGuide) -> Planning:
    """Prepare a guide.

    Raises:
        UserError: its graph is too large to draw.
    """
    settings = guide.config.graph
    if settings.num_nodes > MAX_NODES:
        raise UserError(f"--graph.num-nodes {settings.num_nodes}: graphs of at most {MAX_NODES} nodes can be drawn")
    graph = make_graph(None, settings.num_nodes, settings.edge_probability, guide.config.seed)
    return Planning(guide, graph, _place_nodes(graph))


def describe(planning: Planning) -> dict[str, Any]:
    """Places of nodes, and lines of edges, which end at the rims of nodes."""
    places = planning.places
    return {
        "guide_name": planning.guide.config.guides[0].replace("_", " "),
        "width": WIDTH,
        "height": HEIGHT,
        "radius": _RADIUS,
        "nodes": [(name, *map(round, places[name].tolist())) for name in planning.graph],
        "edges": [_draw_edge(planning.graph, places, edge) for edge in planning.graph.edges],
    }


def answer(planning: Planning, request: GraphRequest) -> dict[str, Any]:
    """The plan: its nodes, whether each hop is an edge, the sub-goals at each hop, and the fewest hops.

    Raises:
        UserError: there is no such node.
    """
    graph, start, goal = planning.graph, request["start"], request["goal"]
    if max(start, goal) >= len(graph):
        raise UserError(f"node {max(start, goal)}: allowed are 0 to {len(graph) - 1}")
    plan = planning.guide.think(start, goal)
    num_hops = int(plan.hops[0])
    nodes = np.asarray(plan.states)[0, : num_hops + 1].tolist()
    names = list(graph)
    # From the layer below the top down; the top's target is the goal.
    sub_goals = [np.asarray(targets)[0, :num_hops].tolist() for targets in reversed(plan.targets[:-1])]
    is_edge = [graph.has_edge(names[a], names[b]) for a, b in itertools.pairwise(nodes)]
    reachable = nx.has_path(graph, names[start], names[goal])
    return {
        "nodes": nodes,
        "is_edge": is_edge,
        "arrives": nodes[-1] == goal and all(is_edge),
        "sub_goals": sub_goals,
        "shortest": nx.shortest_path_length(graph, names[start], names[goal]) if reachable else None,
    }


def _place_nodes(graph: nx.DiGraph) -> dict[str, np.ndarray]:
    """Places within the drawing."""
    places = nx.kamada_kawai_layout(graph.to_undirected())
    found = np.array(list(places.values()))
    low, high = found.min(axis=0), found.max(axis=0)
    size = np.array([WIDTH, HEIGHT]) - 2 * _MARGIN
    return {name: _MARGIN + (place - low) / np.maximum(high - low, 1e-9) * size for name, place in places.items()}


def _draw_edge(graph: nx.DiGraph, places: dict[str, np.ndarray], edge: tuple[str, str]) -> dict[str, Any]:
    """A line from rim to rim, a bit to the right of the straight one if there is an edge back."""
    numbers = {name: number for number, name in enumerate(graph)}
    start, end = (places[name] for name in edge)
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    aside = np.array([-along[1], along[0]]) * (4 if graph.has_edge(*reversed(edge)) else 0)
    ends = start + along * _RADIUS + aside, end - along * (_RADIUS + 5) + aside
    return {"start": numbers[edge[0]], "goal": numbers[edge[1]], "ends": [round(float(x), 1) for x in np.ravel(ends)]}
