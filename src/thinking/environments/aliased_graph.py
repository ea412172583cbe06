"""A graph whose nodes look alike: what the guide observes does not tell where it is.

Two nodes share each observation, but for the goals, which are unlike any other node. An action names an observation
and leads to the successor that shows it (of two, the lower). Where no successor shows it, the world refuses: one stays
where one is, and has spent a hop.

Axes: N nodes, O observations, B rows, W walks, T states of a walk.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np

from thinking.environments.graph import make_random_graph, to_device
from thinking.types import Array


class AliasedGraph(NamedTuple):
    """The world, on the device.

    Attributes:
        node_observations: [N] int32, the observation at each node.
        next_nodes: [N, O] int32, where each action leads from each node; the node itself where it is refused.
        goals: [G] int32, the nodes whose observation is unique.
    """

    node_observations: Array
    next_nodes: Array
    goals: Array

    @property
    def num_observations(self) -> int:
        """O."""
        return self.next_nodes.shape[1]


def make_aliased_graph(num_shared: int, num_goals: int, edge_probability: float, seed: int) -> AliasedGraph:
    """A random directed graph of `2 * num_shared + goals` nodes: two for each shared observation, one for each goal.

    Raises:
        ValueError: if there is no goal.
    """
    if num_goals < 1:
        raise ValueError(f"goals {num_goals}: at least one node must be unlike the others")
    nodes = 2 * num_shared + num_goals
    graph = to_device(make_random_graph(nodes, edge_probability, seed))
    rng = np.random.default_rng(seed)
    shows = np.concatenate([rng.permutation(np.repeat(np.arange(num_shared), 2)), num_shared + np.arange(num_goals)])
    leads = np.repeat(np.arange(nodes)[:, None], num_shared + num_goals, axis=1)
    for node, successors in enumerate(np.asarray(graph.successors)):
        for successor in successors[successors >= 0][::-1]:  # the lowest is written last
            leads[node, shows[successor]] = successor
    return AliasedGraph(*(jnp.asarray(part, jnp.int32) for part in (shows, leads, np.arange(2 * num_shared, nodes))))


def sample_aliased_walks(
    graph: AliasedGraph, key: Array, num_walks: int, num_states: int, random_fraction: float
) -> tuple[Array, Array]:
    """Observations of random walks from random nodes; consumes the key.

    Args:
        graph: to walk in.
        key: typed PRNG key.
        num_walks: W.
        num_states: T.
        random_fraction: how often an action is named among all observations, and so mostly refused; else it is one that leads
            on.

    Returns:
        [W, T] int32 observations, and [W] int32 how many are real (all of them).
    """
    nodes = graph.next_nodes.shape[0]
    start_key, walk_key = jax.random.split(key)
    start = jax.random.randint(start_key, (num_walks,), 0, nodes)

    def go(node: Array, key: Array) -> tuple[Array, Array]:
        any_key, choice_key = jax.random.split(key)
        leads_on = graph.next_nodes[node] != node[:, None]
        anything = jax.random.uniform(any_key, (num_walks, 1)) < random_fraction
        action = jax.random.categorical(choice_key, jnp.where(leads_on | anything, 0.0, -1e9))
        return graph.next_nodes[node, action], graph.node_observations[node]

    _, seen = jax.lax.scan(go, start, jax.random.split(walk_key, num_states))
    return seen.T, jnp.full(num_walks, num_states)


def compute_optimal_hops(graph: AliasedGraph) -> np.ndarray:
    """[N, G] float, hops from each node to each goal for one who sees nodes (networkx); inf where there is no way."""
    leads = np.asarray(graph.next_nodes)
    edges = [(node, int(successor)) for node, row in enumerate(leads) for successor in row if successor != node]
    backward = nx.DiGraph(edges).reverse()
    backward.add_nodes_from(range(len(leads)))
    hops = np.full((len(leads), len(graph.goals)), np.inf)
    for column, goal in enumerate(np.asarray(graph.goals)):
        for node, distance in nx.single_source_shortest_path_length(backward, int(goal)).items():
            hops[node, column] = distance
    return hops
