"""Reachable pairs of nodes, and the validity of plans."""

import jax.numpy as jnp
import networkx as nx

from thinking.environments.graph import make_random_graph, to_device
from thinking.environments.graph_plans import find_reachable_pairs, is_valid_plan


def test_reachable_pairs_match_networkx():
    graph = make_random_graph(9, 0.18, seed=3)
    graph.remove_edges_from(list(graph.out_edges("4")))
    pairs = find_reachable_pairs(graph)
    order = list(graph)
    expected = {
        (order.index(a), order.index(b)): nx.shortest_path_length(graph, a, b)
        for a in graph
        for b in graph
        if a != b and nx.has_path(graph, a, b)
    }
    actual = dict(
        zip(zip(pairs.start.tolist(), pairs.goal.tolist(), strict=True), pairs.optimal_hops.tolist(), strict=True)
    )
    assert pairs.start.size == len(actual)
    assert actual == expected
    assert pairs.num_unreachable == 9 * 8 - len(expected) > 0
    assert pairs.seconds > 0


def test_plans_are_valid_if_they_arrive_along_edges():
    device = to_device(nx.path_graph(4, create_using=nx.DiGraph))
    plans = {
        "walks there": ([0, 1, 2, 2], 2, True, True),
        "uses the last hop": ([0, 1, 2, 3], 3, True, True),
        "is there": ([3, 3, 3, 3], 0, True, True),
        "jumps to its goal": ([0, 2, 2, 2], 1, True, False),
        "jumps on its way": ([0, 2, 3, 3], 2, True, False),
        "walks back": ([2, 1, 1, 1], 1, True, False),
        "waits on its way": ([0, 0, 1, 2], 3, True, False),
        "jumps with the last hop": ([0, 1, 1, 3], 3, True, False),
        "does not arrive": ([0, 1, 2, 3], 3, False, False),
    }
    states, hops, arrived, expected = zip(*plans.values(), strict=True)
    valid = is_valid_plan(device, *map(jnp.array, (states, hops, arrived)))
    assert dict(zip(plans, valid.tolist(), strict=True)) == dict(zip(plans, expected, strict=True))
