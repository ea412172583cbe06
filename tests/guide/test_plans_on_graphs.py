"""Guides of tables plan optimally for every pair of nodes: think and react, against networkx."""

import itertools
from typing import NamedTuple

import jax
import numpy as np
import pytest
from tests.guide import example_graphs

from thinking.environments.graph import Graph
from thinking.guide import Guide, Trajectories
from thinking.recipes.graph.planners import react_planner, think_planner

NODES, MAX_HOPS = 10, 9
GRAPHS = {
    "ring": example_graphs.ring(NODES),
    "line": example_graphs.line(7, num_nodes=NODES),
    "random": example_graphs.random(NODES, 0.17, seed=5),
}


class CompiledGuide(NamedTuple):
    """A guide and its jitted functions, for all graphs of one number of nodes."""

    guide: Guide
    init: object
    observe: object
    think: object
    react: object


def compile_guide(nodes, max_hops, **settings):
    model = example_graphs.table_guide(nodes, **settings)

    def think(state, start, goal):
        return think_planner(model, state, max_hops)(start, goal)

    def react(state, graph, start, goal):
        return react_planner(model, state, max_hops, graph)(start, goal)

    return CompiledGuide(model, *map(jax.jit, (model.init, model.observe, think, react)))


def fit_on_walks(compiled_guide, graph, num_batches, num_walks, num_states):
    state = compiled_guide.init(jax.random.key(0))
    for seed in range(num_batches):
        state, _ = compiled_guide.observe(state, example_graphs.walks(graph, num_walks, num_states, seed))
    return state


def assert_optimal(graph, start, goal, plan):
    """Every pair with a path is solved along edges, in the fewest hops."""
    plan, shortest = jax.device_get(plan), example_graphs.distances(graph)
    for row, (first, last) in enumerate(zip(start.tolist(), goal.tolist(), strict=True)):
        if shortest[first, last] < 0:
            continue
        hops, states = int(plan.hops[row]), plan.states[row].tolist()
        assert plan.arrived[row], (first, last)
        assert hops == shortest[first, last], (first, last)
        assert all(graph.has_edge(*edge) for edge in itertools.pairwise(states[: hops + 1]))
        assert states[0] == first
        assert set(states[hops:]) == {last}


@pytest.fixture(scope="module")
def compiled_guide():
    return compile_guide(NODES, MAX_HOPS)


@pytest.fixture(scope="module")
def guide_states(compiled_guide):
    """The guide's state for each graph, after 4,096 walks."""
    return {name: fit_on_walks(compiled_guide, graph, 8, 512, 14) for name, graph in GRAPHS.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_think_finds_a_shortest_path_for_every_pair(compiled_guide, guide_states, name):
    start, goal = example_graphs.pairs(NODES)
    assert_optimal(GRAPHS[name], start, goal, compiled_guide.think(guide_states[name], start, goal))


@pytest.mark.parametrize("name", GRAPHS)
def test_react_finds_a_shortest_path_for_every_pair(compiled_guide, guide_states, name):
    start, goal = example_graphs.pairs(NODES)
    graph = Graph(*example_graphs.successors(GRAPHS[name]))
    plan = compiled_guide.react(guide_states[name], graph, start, goal)
    assert_optimal(GRAPHS[name], start, goal, plan)
    # In the environment no unreachable goal is reached.
    np.testing.assert_array_equal(plan.arrived, example_graphs.distances(GRAPHS[name])[start, goal] >= 0)


@pytest.mark.parametrize("name", ["line", "random"])
def test_think_does_not_arrive_at_unreachable_goals(compiled_guide, guide_states, name):
    start, goal = example_graphs.pairs(NODES)
    reachable = example_graphs.distances(GRAPHS[name])[start, goal] >= 0
    assert not reachable.all()
    np.testing.assert_array_equal(compiled_guide.think(guide_states[name], start, goal).arrived, reachable)


def test_a_plan_from_the_goal_has_no_hops(compiled_guide, guide_states):
    nodes = np.tile(np.arange(NODES, dtype=np.int32), NODES)
    plan = compiled_guide.think(guide_states["line"], nodes, nodes)
    assert plan.arrived.all()
    assert not plan.hops.any()
    np.testing.assert_array_equal(plan.states, np.tile(nodes[:, None], MAX_HOPS + 1))


def test_plans_arrive_within_max_hops_only():
    compiled_guide = compile_guide(3, 1, layers=2)
    state = fit_on_walks(compiled_guide, example_graphs.ring(3), 1, 16, 5)
    plan = compiled_guide.think(state, *example_graphs.pairs(3))
    distance = example_graphs.distances(example_graphs.ring(3)).reshape(-1)
    assert set(distance) == {0, 1, 2}
    np.testing.assert_array_equal(plan.arrived, distance <= 1)
    np.testing.assert_array_equal(plan.hops, np.minimum(distance, 1))


def test_plans_are_optimal_on_fifty_nodes():
    graph, compiled_guide = example_graphs.ring_with_shortcuts(50), compile_guide(50, 40)
    state = fit_on_walks(compiled_guide, graph, 4, 512, 36)
    start, goal = example_graphs.pairs(50)
    assert_optimal(graph, start, goal, compiled_guide.think(state, start, goal))


def test_plans_are_optimal_with_contexts_of_two_items():
    graph, compiled_guide = example_graphs.random(6, 0.3, seed=1), compile_guide(6, 6, context_length=2)
    assert example_graphs.distances(graph).max() > 2
    state = fit_on_walks(compiled_guide, graph, 8, 512, 10)
    start, goal = example_graphs.pairs(6)
    assert_optimal(graph, start, goal, compiled_guide.think(state, start, goal))


def test_other_goals_and_lengths_do_not_recompile(compiled_guide):
    state = compiled_guide.init(jax.random.key(0))
    for length in (1, 3, 14):
        nodes = example_graphs.walks(GRAPHS["ring"], 512, 14, seed=length).states
        state, _ = compiled_guide.observe(state, Trajectories(nodes, np.full(512, length, np.int32)))
        compiled_guide.think(state, *np.random.default_rng(length).integers(0, NODES, (2, NODES**2), np.int32))
    assert compiled_guide.observe._cache_size() == 1
    assert compiled_guide.think._cache_size() == 1
