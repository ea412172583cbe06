"""The graph that the flags ask for, and its nodes by name."""

import difflib

import networkx as nx

from thinking.environments.graph import random_graph, read_graph
from thinking.errors import UserError
from thinking.recipes.graph.config import GraphConfig


def load_graph(config: GraphConfig, seed: int) -> nx.DiGraph:
    """The graph of a file, or a random one without a file.

    Raises:
        UserError: the file cannot be read or is malformed; or there are fewer than two nodes or no edge, so that
            there is nothing to plan.
    """
    if config.path is None:
        graph = random_graph(config.num_nodes, config.edge_probability, seed)
        source = f"the random graph of seed {seed}"
        larger, denser = "take more --graph.num-nodes", "take a larger --graph.edge-probability or another --seed"
    else:
        source = f"--graph.path {config.path}"
        try:
            graph = read_graph(config.path)
        except OSError as error:
            raise UserError(f"{source}: {error.strerror}; give a file that exists and can be read") from error
        except ValueError as error:
            raise UserError(f"{source}: {error}") from error
        larger, denser = "give a larger graph", "give a graph with edges"
    if len(graph) < 2:
        raise UserError(f"{source} has 1 node: a plan needs at least 2; {larger}")
    if graph.number_of_edges() == 0:
        raise UserError(f"{source} has {len(graph)} nodes but no edge: there is no way to learn; {denser}")
    return graph


def node_index(graph: nx.DiGraph, name: str) -> int:
    """The number of a node that `--plan` names.

    Raises:
        UserError: there is none of this name.
    """
    names = list(graph)
    if name in graph:
        return names.index(name)
    close = difflib.get_close_matches(name, names, n=3) or names[:3]
    raise UserError(f"--plan {name}: no node has this name; there are {len(names)}, such as {', '.join(close)}")
