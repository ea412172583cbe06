"""Small graphs, random walks on them without JAX, and guides of tables, for the tests of the guide."""

import networkx as nx
import numpy as np

from thinking.guide import Trajectories, guide
from thinking.guide.abstraction import skip_step
from thinking.kernels import Discrete, table


def ring(nodes):
    return nx.cycle_graph(nodes, create_using=nx.DiGraph)


def line(nodes, num_nodes):
    """A line with edges both ways; nodes beyond it, up to `num_nodes`, have no edges."""
    graph = nx.DiGraph(nx.path_graph(nodes))
    graph.add_nodes_from(range(num_nodes))
    return graph


def random(nodes, edge_probability, seed):
    return nx.gnp_random_graph(nodes, edge_probability, seed=seed, directed=True)


def ring_with_shortcuts(nodes):
    graph = ring(nodes)
    graph.add_edges_from((node, (node + 7) % nodes) for node in range(0, nodes, 10))
    return graph


def distances(graph):
    """[N, N] hops of a shortest path, -1 where there is none."""
    hops_between = np.full((len(graph), len(graph)), -1)
    for start, reached in nx.all_pairs_shortest_path_length(graph):
        for goal, hops in reached.items():
            hops_between[start, goal] = hops
    return hops_between


def successors(graph):
    """[N, N] int32 as `Graph.successors`, but N wide for every graph of N nodes; and [N] degrees."""
    nodes = len(graph)
    padded = np.full((nodes, nodes), -1, np.int32)
    for node in graph:
        next_nodes = sorted(graph.successors(node))
        padded[node, : len(next_nodes)] = next_nodes
    return padded, np.array([graph.out_degree(node) for node in range(nodes)], np.int32)


def walks(graph, num_walks, num_states, seed):
    """Random walks. The states beyond a dead end are noise, which must not be read."""
    rng = np.random.default_rng(seed)
    next_nodes, degree = successors(graph)
    nodes = rng.integers(0, len(graph), (num_walks, num_states)).astype(np.int32)
    length = np.ones(num_walks, np.int32)
    for t in range(1, num_states):
        here = nodes[:, t - 1]
        continues = (length == t) & (degree[here] > 0)
        nodes[continues, t] = next_nodes[here, rng.integers(0, np.maximum(degree[here], 1))][continues]
        length += continues
    return Trajectories(nodes, length)


def pairs(nodes):
    """All (start, goal) pairs, two [N * N] arrays."""
    return tuple(np.divmod(np.arange(nodes**2, dtype=np.int32), np.int32(nodes)))


def table_guide(nodes, *, layers=3, context_length=1, **settings):
    space = Discrete(nodes)
    kernel = table(input=space, value=space, target=space, context_length=context_length)
    return guide(layers=[kernel] * layers, abstraction=skip_step(2), **settings)
