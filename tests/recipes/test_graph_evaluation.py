"""Evaluation of planners on all pairs, against networkx and hand-computed metrics."""

import itertools

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from jax.tree_util import Partial

from thinking.environments.graph import make_random_graph, to_device
from thinking.environments.graph_plans import NodePairs, find_reachable_pairs, is_valid_plan
from thinking.guide.plan import Plan, unroll_plan
from thinking.recipes.graph.evaluation import (
    Evaluation,
    compute_length_ratios,
    compute_metrics,
    compute_optimum_metrics,
    describe,
    evaluate,
    find_hardest_solved,
    spot_check,
)
from thinking.recipes.graph.planners import random_planner

MAX_HOPS = 6


@pytest.fixture(scope="module")
def graph_data():
    graph = make_random_graph(9, 0.18, seed=3)
    graph.remove_edges_from(list(graph.out_edges("4")))
    return graph, to_device(graph), find_reachable_pairs(graph)


def make_cheating_planner(graph, cheating_nodes):
    """An optimal planner that jumps to the goal from some nodes, its next hops, and the batch shapes of its traces."""
    nodes, batch_shapes = list(graph), []
    next_hop = np.tile(np.arange(9, dtype=np.int32)[:, None], 9)
    for source, paths in nx.all_pairs_shortest_path(graph):
        for target, path in paths.items():
            source_index, target_index = nodes.index(source), nodes.index(target)
            if source_index != target_index:
                next_hop[source_index, target_index] = (
                    target_index if source_index in cheating_nodes else nodes.index(path[1])
                )

    def plan(next_hop, start, goal):
        batch_shapes.append(start.shape)
        return unroll_plan(
            lambda i, s, alive: (i, next_hop[s, goal], (goal,)), (), start, lambda node: node == goal, MAX_HOPS
        )

    return Partial(plan, jnp.asarray(next_hop)), next_hop, batch_shapes


@pytest.mark.parametrize("batch_size", [7, 2**15], ids=["partial last batch", "one batch"])
def test_every_pair_is_evaluated(graph_data, batch_size):
    graph, device_graph, pairs = graph_data
    nodes, num_pairs = list(graph), pairs.start.size
    assert num_pairs % 7  # the last batch is partial
    assert pairs.optimal_hops.max() <= MAX_HOPS
    planner, next_hop, batch_shapes = make_cheating_planner(graph, cheating_nodes={2, 6})
    evaluation = evaluate(device_graph, planner, pairs, batch_size=batch_size)
    assert set(batch_shapes) == {(min(batch_size, num_pairs),)}  # one shape serves all
    assert evaluation.solved.shape == evaluation.hops.shape == (num_pairs,)
    assert evaluation.seconds > 0
    for pair, (start, goal, optimal_hops) in enumerate(zip(*map(np.ndarray.tolist, pairs[:3]), strict=True)):
        path = [start]
        while path[-1] != goal:
            path.append(int(next_hop[path[-1], goal]))
        is_valid = all(graph.has_edge(nodes[a], nodes[b]) for a, b in itertools.pairwise(path))
        assert evaluation.solved[pair] == is_valid
        assert evaluation.hops[pair] == len(path) - 1
        assert not is_valid or len(path) - 1 == optimal_hops
    assert 0 < evaluation.solved.sum() < num_pairs
    solved_fraction = spot_check(device_graph, planner, pairs, count=num_pairs)
    np.testing.assert_allclose(solved_fraction, evaluation.solved.mean(), rtol=1e-6)


def test_metrics_match_hand_computed_values():
    pairs = NodePairs(np.array([0, 0, 1, 1]), np.array([1, 2, 0, 2]), np.array([1, 2, 2, 1]), 2, 0.25)
    evaluation = Evaluation(np.array([True, True, False, True]), np.array([1, 3, 9, 2]), 0.5)
    np.testing.assert_allclose(compute_length_ratios(evaluation, pairs), [1, 1.5, 2])
    assert compute_metrics(evaluation, pairs) == {
        "num_pairs": 4,
        "num_solved": 3,
        "solved_fraction": 0.75,
        "mean_length_ratio": 1.5,
        "plans_per_second": 8.0,
    }
    assert compute_optimum_metrics(pairs) == {
        "num_pairs": 4,
        "num_solved": 4,
        "solved_fraction": 1.0,
        "mean_length_ratio": 1.0,
        "plans_per_second": 16.0,
    }


def test_hardest_solved_pair_has_the_most_optimal_hops():
    pairs = NodePairs(np.array([0, 3, 4, 5]), np.array([7, 1, 2, 6]), np.array([1, 2, 3, 1]), 0, 1.0)
    evaluation = Evaluation(np.array([True, True, False, True]), np.array([1, 2, 6, 1]), 1.0)
    assert [side.tolist() for side in find_hardest_solved(evaluation, pairs)] == [[3], [1]]
    assert find_hardest_solved(evaluation._replace(solved=np.zeros(4, bool)), pairs) is None


def test_describe_lists_hops_and_sub_goals_of_every_layer():
    device_graph = to_device(nx.path_graph(4, create_using=nx.DiGraph))
    sub_goals = jnp.array([[1, 3, 0]]), jnp.array([[2, 2, 0]]), jnp.array([[3, 3, 0]])
    plan = Plan(jnp.array([[0, 1, 3, 3]]), jnp.array([2]), jnp.array([True]), sub_goals)
    assert describe(device_graph, ["a", "b", "c", "d"], plan) == [
        {"hop": "1", "from": "a", "to": "b", "edge": "yes", "sub-goal of layer 2": "c", "sub-goal of layer 1": "b"},
        {"hop": "2", "from": "b", "to": "d", "edge": "NO", "sub-goal of layer 2": "c", "sub-goal of layer 1": "d"},
    ]


def test_length_ratio_is_none_if_nothing_is_solved():
    pairs = NodePairs(np.array([0]), np.array([1]), np.array([1]), 1, 1.0)
    metrics = compute_metrics(Evaluation(np.array([False]), np.array([6]), 1.0), pairs)
    assert metrics["mean_length_ratio"] is None
    assert metrics["solved_fraction"] == 0
    assert all(type(value) in (int, float, type(None)) for value in metrics.values())  # JSON types


def test_planner_that_never_moves_solves_nothing(graph_data):
    _, device_graph, pairs = graph_data

    def stay(start, goal):
        return unroll_plan(lambda i, s, alive: (i, s, (goal,)), (), start, lambda node: node == goal, MAX_HOPS)

    assert not evaluate(device_graph, Partial(stay), pairs).solved.any()
    assert spot_check(device_graph, stay, pairs) == 0


def test_random_planner_follows_only_edges(graph_data):
    graph, device_graph, pairs = graph_data
    nodes = list(graph)
    planner = random_planner(device_graph, jax.random.key(0), MAX_HOPS)
    plan = jax.device_get(jax.jit(planner)(pairs.start, pairs.goal))
    for states, hops, arrived, goal in zip(plan.states.tolist(), plan.hops, plan.arrived, pairs.goal, strict=True):
        for before, after in itertools.pairwise(states[: hops + 1]):
            is_sink = graph.out_degree(nodes[before]) == 0
            assert (before == after) if is_sink else graph.has_edge(nodes[before], nodes[after])
        assert arrived == (states[-1] == goal)
        assert goal not in states[:hops]
    is_solved = np.asarray(is_valid_plan(device_graph, plan.states, plan.hops, plan.arrived))
    np.testing.assert_array_equal(is_solved, plan.arrived)
    other = random_planner(device_graph, jax.random.key(1), MAX_HOPS)
    assert np.any(jax.jit(other)(pairs.start, pairs.goal).states != plan.states)
    assert 0 < is_solved.mean() < 1
