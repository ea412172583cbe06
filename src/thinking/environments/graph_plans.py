"""Plans between nodes of a graph: which pairs have one, and whether a plan is valid.

Axes: P pairs, B plans, H maximum hops.
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
    """All ordered pairs of distinct nodes with a path between them.

    Attributes:
        start: [P] int32.
        goal: [P] int32.
        optimal_hops: [P] int32, length of a shortest path.
        num_unreachable: number of ordered pairs of distinct nodes without a path.
        seconds: time that networkx took to find all shortest paths.
    """

    start: np.ndarray
    goal: np.ndarray
    optimal_hops: np.ndarray
    num_unreachable: int
    seconds: float


def find_reachable_pairs(graph: nx.DiGraph) -> NodePairs:
    """All pairs with a path, and their shortest path lengths (networkx); at least one edge joins two nodes."""
    number = {node: index for index, node in enumerate(graph)}
    begin = time.perf_counter()
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    seconds = time.perf_counter() - begin
    rows = [
        (number[start], number[goal], hops)
        for start, ends in lengths.items()
        for goal, hops in ends.items()
        if goal != start
    ]
    start, goal, optimum = np.array(rows, np.int32).T
    return NodePairs(start, goal, optimum, len(graph) * (len(graph) - 1) - len(rows), seconds)


@jax.jit
def is_valid_plan(graph: Graph, states: Array, num_hops: Array, reached_goal: Array) -> Array:
    """Whether plans reach their goal and use edges only.

    Args:
        graph: the graph.
        states: [B, H + 1] int32 nodes, the start first.
        num_hops: [B] int32, number of hops taken, at most H.
        reached_goal: [B] bool, whether the plan ended at its goal.

    Returns:
        [B] bool.
    """

    def check(hop: Array, valid: Array) -> Array:
        return valid & (is_edge(graph, states[:, hop], states[:, hop + 1]) | (hop >= num_hops))

    # The loop ends with the longest plan.
    return jax.lax.fori_loop(0, jnp.max(num_hops), check, reached_goal)
