"""Evaluation of planners: all pairs, every hop, and figures that a hand can check."""

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

HOPS = 6


@pytest.fixture(scope="module")
def world():
    graph = make_random_graph(9, 0.18, seed=3)
    graph.remove_edges_from(list(graph.out_edges("4")))
    return graph, to_device(graph), find_reachable_pairs(graph)


def cheating_planner(graph, cheats):
    """Goes optimally, but from some nodes jumps to the goal; and what batches it was asked for when it was compiled."""
    order, asked = list(graph), []
    following = np.tile(np.arange(9, dtype=np.int32)[:, None], 9)
    for begin, ways in nx.all_pairs_shortest_path(graph):
        for end, way in ways.items():
            here, there = order.index(begin), order.index(end)
            if here != there:
                following[here, there] = there if here in cheats else order.index(way[1])

    def plan(following, start, goal):
        asked.append(start.shape)
        return unroll_plan(
            lambda i, s, alive: (i, following[s, goal], (goal,)), (), start, lambda node: node == goal, HOPS
        )

    return Partial(plan, jnp.asarray(following)), following, asked


@pytest.mark.parametrize("batch", [7, 2**15], ids=["a partial last batch", "one batch"])
def test_every_pair_is_evaluated(world, batch):
    graph, device, pairs = world
    order, count = list(graph), pairs.start.size
    assert count % 7  # the last batch is partial
    assert pairs.optimal_hops.max() <= HOPS
    planner, following, asked = cheating_planner(graph, cheats={2, 6})
    evaluation = evaluate(device, planner, pairs, batch_size=batch)
    assert set(asked) == {(min(batch, count),)}  # one shape serves all
    assert evaluation.solved.shape == evaluation.hops.shape == (count,)
    assert evaluation.seconds > 0
    for pair, (begin, end, optimum) in enumerate(zip(*map(np.ndarray.tolist, pairs[:3]), strict=True)):
        way = [begin]
        while way[-1] != end:
            way.append(int(following[way[-1], end]))
        honest = all(graph.has_edge(order[a], order[b]) for a, b in itertools.pairwise(way))
        assert evaluation.solved[pair] == honest
        assert evaluation.hops[pair] == len(way) - 1
        assert not honest or len(way) - 1 == optimum
    assert 0 < evaluation.solved.sum() < count
    share = spot_check(device, planner, pairs, count=count)
    np.testing.assert_allclose(share, evaluation.solved.mean(), rtol=1e-6)


def test_figures_are_what_a_hand_computes():
    pairs = NodePairs(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 2]), np.array([0, 1, 2, 2, 1]), 4, 0.25)
    evaluation = Evaluation(np.array([True, True, True, False, True]), np.array([0, 1, 3, 9, 2]), 0.5)
    np.testing.assert_allclose(compute_length_ratios(evaluation, pairs), [1, 1.5, 2])
    assert compute_metrics(evaluation, pairs) == {
        "num_pairs": 5,
        "num_solved": 4,
        "solved_fraction": 0.8,
        "mean_length_ratio": 1.5,
        "plans_per_second": 10.0,
    }
    assert compute_optimum_metrics(pairs) == {
        "num_pairs": 5,
        "num_solved": 5,
        "solved_fraction": 1.0,
        "mean_length_ratio": 1.0,
        "plans_per_second": 20.0,
    }


def test_the_hardest_solved_pair_is_the_farthest_of_the_solved():
    pairs = NodePairs(np.array([0, 3, 4, 5]), np.array([0, 1, 2, 6]), np.array([0, 2, 3, 1]), 0, 1.0)
    solved = Evaluation(np.array([True, True, False, True]), np.array([0, 2, 6, 1]), 1.0)
    assert [side.tolist() for side in find_hardest_solved(solved, pairs)] == [[3], [1]]
    assert find_hardest_solved(solved._replace(solved=np.zeros(4, bool)), pairs) is None


def test_a_plan_is_told_hop_by_hop_with_what_every_layer_pursued():
    device = to_device(nx.path_graph(4, create_using=nx.DiGraph))
    pursued = jnp.array([[1, 3, 0]]), jnp.array([[2, 2, 0]]), jnp.array([[3, 3, 0]])
    plan = Plan(jnp.array([[0, 1, 3, 3]]), jnp.array([2]), jnp.array([True]), pursued)
    assert describe(device, ["a", "b", "c", "d"], plan) == [
        {"hop": "1", "from": "a", "to": "b", "edge": "yes", "sub-goal of layer 2": "c", "sub-goal of layer 1": "b"},
        {"hop": "2", "from": "b", "to": "d", "edge": "NO", "sub-goal of layer 2": "c", "sub-goal of layer 1": "d"},
    ]


def test_where_only_a_node_and_itself_are_solved_there_is_no_ratio():
    pairs = NodePairs(np.array([0, 0]), np.array([0, 1]), np.array([0, 1]), 2, 1.0)
    found = compute_metrics(Evaluation(np.array([True, False]), np.array([0, 6]), 1.0), pairs)
    assert found["mean_length_ratio"] is None
    assert found["solved_fraction"] == 0.5
    assert all(type(value) in (int, float, type(None)) for value in found.values())  # as JSON knows them


def test_the_random_planner_takes_edges_and_nothing_else(world):
    graph, device, pairs = world
    order = list(graph)
    planner = random_planner(device, jax.random.key(0), HOPS)
    plan = jax.device_get(jax.jit(planner)(pairs.start, pairs.goal))
    for states, hops, arrived, goal in zip(plan.states.tolist(), plan.hops, plan.arrived, pairs.goal, strict=True):
        for before, after in itertools.pairwise(states[: hops + 1]):
            stuck = graph.out_degree(order[before]) == 0
            assert (before == after) if stuck else graph.has_edge(order[before], order[after])
        assert arrived == (states[-1] == goal)
        assert goal not in states[:hops]
    solved = np.asarray(is_valid_plan(device, plan.states, plan.hops, plan.arrived))
    np.testing.assert_array_equal(solved, plan.arrived)
    other = random_planner(device, jax.random.key(1), HOPS)
    assert np.any(jax.jit(other)(pairs.start, pairs.goal).states != plan.states)
    assert solved[pairs.optimal_hops == 0].all()
    assert 0 < solved[pairs.optimal_hops > 0].mean() < 1
