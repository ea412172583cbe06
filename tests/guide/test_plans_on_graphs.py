"""Guides of tables plan optimally: every pair of nodes, thinking and reacting, against networkx."""

import itertools
from typing import NamedTuple

import jax
import numpy as np
import pytest
from tests.guide import worlds

from thinking.environments.graph import Graph
from thinking.guide import Guide, Path
from thinking.recipes.graph.planners import react_planner, think_planner

NODES, MAX_HOPS = 10, 9
GRAPHS = {
    "ring": worlds.ring(NODES),
    "line": worlds.line(7, of=NODES),
    "random": worlds.random(NODES, 0.17, seed=5),
}


class Compiled(NamedTuple):
    """A guide, and its functions compiled once for all graphs of so many nodes."""

    guide: Guide
    init: object
    observe: object
    think: object
    react: object


def compiled(nodes, max_hops, **settings):
    built = worlds.table_guide(nodes, **settings)

    def think(state, start, goal):
        return think_planner(built, state, max_hops)(start, goal)

    def react(state, graph, start, goal):
        return react_planner(built, state, max_hops, graph)(start, goal)

    return Compiled(built, *map(jax.jit, (built.init, built.observe, think, react)))


def learn(tables, graph, batches, walks, states):
    state = tables.init(jax.random.key(0))
    for seed in range(batches):
        state, _ = tables.observe(state, worlds.walks(graph, walks, states, seed))
    return state


def assert_optimal(graph, start, goal, plan):
    """Every pair that has a path is solved over edges alone, in as few hops as there can be."""
    plan, optimum = jax.device_get(plan), worlds.distances(graph)
    for row, (begin, end) in enumerate(zip(start.tolist(), goal.tolist(), strict=True)):
        if optimum[begin, end] < 0:
            continue
        hops, states = int(plan.hops[row]), plan.states[row].tolist()
        assert plan.arrived[row], (begin, end)
        assert hops == optimum[begin, end], (begin, end)
        assert all(graph.has_edge(*edge) for edge in itertools.pairwise(states[: hops + 1]))
        assert states[0] == begin
        assert set(states[hops:]) == {end}


@pytest.fixture(scope="module")
def tables():
    return compiled(NODES, MAX_HOPS)


@pytest.fixture(scope="module")
def fitted(tables):
    """The guide's state for each graph, after 4,096 walks."""
    return {name: learn(tables, graph, 8, 512, 14) for name, graph in GRAPHS.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_thinking_finds_a_shortest_path_for_every_pair(tables, fitted, name):
    start, goal = worlds.pairs(NODES)
    assert_optimal(GRAPHS[name], start, goal, tables.think(fitted[name], start, goal))


@pytest.mark.parametrize("name", GRAPHS)
def test_reacting_finds_a_shortest_path_for_every_pair(tables, fitted, name):
    start, goal = worlds.pairs(NODES)
    graph = Graph(*worlds.successors(GRAPHS[name]))
    plan = tables.react(fitted[name], graph, start, goal)
    assert_optimal(GRAPHS[name], start, goal, plan)
    # In the world nobody arrives where no path leads.
    np.testing.assert_array_equal(plan.arrived, worlds.distances(GRAPHS[name])[start, goal] >= 0)


@pytest.mark.parametrize("name", ["line", "random"])
def test_thinking_does_not_arrive_where_no_path_leads(tables, fitted, name):
    start, goal = worlds.pairs(NODES)
    reachable = worlds.distances(GRAPHS[name])[start, goal] >= 0
    assert not reachable.all()
    np.testing.assert_array_equal(tables.think(fitted[name], start, goal).arrived, reachable)


def test_who_is_at_the_goal_needs_no_hop(tables, fitted):
    nodes = np.tile(np.arange(NODES, dtype=np.int32), NODES)
    plan = tables.think(fitted["line"], nodes, nodes)
    assert plan.arrived.all()
    assert not plan.hops.any()
    np.testing.assert_array_equal(plan.states, np.tile(nodes[:, None], MAX_HOPS + 1))


def test_arriving_with_the_last_hop_is_arriving_and_one_hop_less_is_not():
    tables = compiled(3, 1, layers=2)
    state = learn(tables, worlds.ring(3), 1, 16, 5)
    plan = tables.think(state, *worlds.pairs(3))
    distance = worlds.distances(worlds.ring(3)).reshape(-1)
    assert set(distance) == {0, 1, 2}
    np.testing.assert_array_equal(plan.arrived, distance <= 1)
    np.testing.assert_array_equal(plan.hops, np.minimum(distance, 1))


def test_fifty_nodes_are_planned_as_well():
    graph, tables = worlds.ring_with_shortcuts(50), compiled(50, 40)
    state = learn(tables, graph, 4, 512, 36)
    start, goal = worlds.pairs(50)
    assert_optimal(graph, start, goal, tables.think(state, start, goal))


def test_contexts_of_two_items_plan_as_well():
    graph, tables = worlds.random(6, 0.3, seed=1), compiled(6, 6, context_length=2)
    assert worlds.distances(graph).max() > 2
    state = learn(tables, graph, 8, 512, 10)
    start, goal = worlds.pairs(6)
    assert_optimal(graph, start, goal, tables.think(state, start, goal))


def test_other_goals_and_other_lengths_do_not_compile_again(tables):
    state = tables.init(jax.random.key(0))
    for length in (1, 3, 14):
        nodes = worlds.walks(GRAPHS["ring"], 512, 14, seed=length).states
        state, _ = tables.observe(state, Path(nodes, np.full(512, length, np.int32)))
        tables.think(state, *np.random.default_rng(length).integers(0, NODES, (2, NODES**2), np.int32))
    assert tables.observe._cache_size() == 1
    assert tables.think._cache_size() == 1
