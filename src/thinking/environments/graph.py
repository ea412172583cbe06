"""A directed graph as an environment: the state is a node, a step follows an edge.

Axes: N nodes, K maximum degree, B rows, W walks, T states of a walk.
"""

import difflib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np

from thinking.environments.graph_files import read_graph
from thinking.types import Array


class Graph(NamedTuple):
    """A graph on the device.

    Attributes:
        successors: [N, K] int32, ascending, padded with -1.
        degree: [N] int32, number of successors.
    """

    successors: Array
    degree: Array


def make_random_graph(num_nodes: int, edge_probability: float, seed: int) -> nx.DiGraph:
    """A random directed graph without self-loops (Erdos-Renyi); node names are their numbers, as strings."""
    graph = nx.fast_gnp_random_graph(num_nodes, edge_probability, seed=seed, directed=True)
    return nx.relabel_nodes(graph, str)


def make_graph(
    path: Path | None, num_nodes: int, edge_probability: float, seed: int, *, undirected: bool = False
) -> nx.DiGraph:
    """Read a graph from a file (see `graph_files.read_graph`), or make a random one if `path` is None.

    Raises:
        ValueError: for fewer than two nodes or no edge between two, as nothing can be planned; also see `read_graph`.
    """
    if path is None:
        graph = make_random_graph(num_nodes, edge_probability, seed)
    else:
        graph = read_graph(path, undirected=undirected)
    if len(graph) < 2:
        source, hint = (
            (f"num_nodes {num_nodes}", "take more") if path is None else (f"path {path}", "give a larger graph")
        )
        raise ValueError(f"{source}: {len(graph)} node, and a plan needs at least 2; {hint}")
    if all(start == end for start, end in graph.edges):
        source, hint = f"path {path}", "give a graph with edges"
        if path is None:
            source, hint = f"edge_probability {edge_probability}", f"take a larger one, or another seed than {seed}"
        raise ValueError(f"{source}: {len(graph)} nodes and no edge, so no plan exists; {hint}")
    return graph


def find_node(graph: nx.DiGraph, name: str) -> int:
    """The index of a node by name.

    Raises:
        ValueError: if there is no such node.
    """
    names = list(graph)
    if name in graph:
        return names.index(name)
    close = difflib.get_close_matches(name, names, n=3) or names[:3]
    raise ValueError(f"name {name}: no node has this name; there are {len(names)}, such as {', '.join(close)}")


def to_device(graph: nx.DiGraph) -> Graph:
    """Number the nodes in the graph's order and put their successors on the device."""
    number = {node: index for index, node in enumerate(graph)}
    lists = [sorted(number[successor] for successor in graph.successors(node)) for node in graph]
    degree = np.array([len(successors) for successors in lists], np.int32)
    padded = np.full((len(lists), max(1, degree.max())), -1, np.int32)
    for row, successors in zip(padded, lists, strict=True):
        row[: len(successors)] = successors
    return Graph(jnp.asarray(padded), jnp.asarray(degree))


def is_edge(graph: Graph, node: Array, successor: Array) -> Array:
    """[B] bool, whether the edge node [B] -> successor [B] exists."""
    return (successor >= 0) & jnp.any(graph.successors[node] == successor[:, None], axis=1)


def step(graph: Graph, node: Array, successor: Array) -> Array:
    """Move from node [B] to successor [B] where that is an edge; else stay."""
    return jnp.where(is_edge(graph, node, successor), successor, node)


def sample_step(graph: Graph, key: Array, node: Array) -> Array:
    """[B] a random successor of each node, or the node itself where it has none; consumes the key."""
    choice = jax.random.randint(key, node.shape, 0, jnp.maximum(graph.degree[node], 1))
    return jnp.where(graph.degree[node] > 0, graph.successors[node, choice], node)


def sample_walks(graph: Graph, key: Array, num_walks: int, num_states: int) -> tuple[Array, Array]:
    """Random walks from random nodes; a walk ends at a node without successors. Consumes the key.

    Returns:
        [W, T] int32 nodes, and [W] int32 numbers of nodes visited.
    """
    start_key, walk_key = jax.random.split(key)
    start = jax.random.randint(start_key, (num_walks,), 0, graph.degree.shape[0])

    def step(node: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
        return sample_step(graph, key, node), (node, graph.degree[node] > 0)

    _, (nodes, goes_on) = jax.lax.scan(step, start, jax.random.split(walk_key, num_states))
    moves = jnp.cumprod(goes_on[:-1].astype(jnp.int32), axis=0)
    return nodes.T, 1 + jnp.sum(moves, axis=0)
