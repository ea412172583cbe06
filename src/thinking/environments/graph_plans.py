"""Plans between the nodes of a graph: which pairs have one, and whether a given one holds.

Axes: P pairs, B plans, H hops allowed.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np

from thinking.environments.graph import Graph, is_edge
from thinking.types import Array


class NodePairs(NamedTuple):
    """All ordered pairs of nodes with a path between them, a node and itself included.

    Attributes:
        start: [P] int32.
        goal: [P] int32.
        optimal_hops: [P] int32, hops of a shortest path.
        num_unreachable: how many ordered pairs have no path.
        seconds: that networkx took to find all shortest paths.
    """

    start: np.ndarray
    goal: np.ndarray
    optimal_hops: np.ndarray
    num_unreachable: int
    seconds: float


def find_reachable_pairs(graph: nx.DiGraph) -> NodePairs:
    """Every pair that has a path, with the optimum found by networkx."""
    number = {node: index for index, node in enumerate(graph)}
    begin = time.perf_counter()
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    seconds = time.perf_counter() - begin
    rows = [(number[start], number[goal], hops) for start, ends in lengths.items() for goal, hops in ends.items()]
    start, goal, optimum = np.array(rows, np.int32).T
    return NodePairs(start, goal, optimum, len(graph) ** 2 - len(rows), seconds)


@jax.jit
def is_valid_plan(graph: Graph, states: Array, num_hops: Array, reached_goal: Array) -> Array:
    """Whether plans arrived and every hop of them is an edge.

    Args:
        graph: the graph.
        states: [B, H + 1] int32 nodes, the start first.
        num_hops: [B] int32, how many of the H hops were made.
        reached_goal: [B] bool, whether the plan claims to end at its goal.

    Returns:
        [B] bool.
    """

    def check(hop: Array, valid: Array) -> Array:
        return valid & (is_edge(graph, states[:, hop], states[:, hop + 1]) | (hop >= num_hops))

    # Only as many hops are looked at as the longest plan has.
    return jax.lax.fori_loop(0, jnp.max(num_hops), check, reached_goal)
