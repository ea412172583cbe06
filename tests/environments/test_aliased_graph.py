"""A graph in which nodes share observations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinking.environments.aliased_graph import (
    AliasedGraph,
    compute_optimal_hops,
    make_aliased_graph,
    make_aliased_graph_env,
    sample_aliased_walks,
)
from thinking.environments.graph import make_random_graph

GRAPH = make_aliased_graph(num_shared=6, num_goals=3, edge_probability=0.3, seed=1)


def test_two_nodes_share_each_observation_and_goals_share_none():
    counts = np.bincount(np.asarray(GRAPH.node_observations))
    assert counts.tolist() == [2] * 6 + [1] * 3
    assert np.asarray(GRAPH.goals).tolist() == [12, 13, 14]
    assert sorted(np.asarray(GRAPH.node_observations)[12:]) == [6, 7, 8]


def test_action_leads_to_the_lowest_successor_with_its_observation():
    graph, node_observations = make_random_graph(15, 0.3, 1), np.asarray(GRAPH.node_observations)
    for node in range(15):
        for action in range(GRAPH.num_observations):
            matching_successors = [int(s) for s in graph.successors(str(node)) if node_observations[int(s)] == action]
            assert int(GRAPH.next_nodes[node, action]) == min(matching_successors, default=node)


def test_walks_follow_the_graph_and_invalid_actions_stay():
    num_walks, num_states = 200, 30
    observations, length = sample_aliased_walks(GRAPH, jax.random.key(0), num_walks, num_states, random_fraction=0.5)
    assert observations.shape == (num_walks, num_states)
    assert (length == num_states).all()
    node_observations, next_nodes = np.asarray(GRAPH.node_observations), np.asarray(GRAPH.next_nodes)
    allowed_pairs = {(node_observations[a], node_observations[b]) for a in range(15) for b in next_nodes[a]}
    pairs = set(
        zip(
            np.asarray(observations[:, :-1]).ravel().tolist(),
            np.asarray(observations[:, 1:]).ravel().tolist(),
            strict=True,
        )
    )
    assert pairs <= allowed_pairs
    stay_fraction = np.mean(np.asarray(observations[:, :-1] == observations[:, 1:]))
    valid_observations, _ = sample_aliased_walks(GRAPH, jax.random.key(0), num_walks, num_states, random_fraction=0.0)
    assert stay_fraction > 0.2 > np.mean(np.asarray(valid_observations[:, :-1] == valid_observations[:, 1:]))


def test_optimal_hops_match_breadth_first_search():
    hops = compute_optimal_hops(GRAPH)
    next_nodes = np.asarray(GRAPH.next_nodes)
    for column, goal in enumerate(np.asarray(GRAPH.goals)):
        distances, frontier, distance = {int(goal): 0}, {int(goal)}, 0
        while frontier:
            distance += 1
            frontier = {n for n in range(15) if n not in distances and set(next_nodes[n].tolist()) & frontier}
            distances |= dict.fromkeys(frontier, distance)
        assert [distances.get(node, np.inf) for node in range(15)] == hops[:, column].tolist()


def test_episodes_start_at_all_pairs_and_end_at_the_goal_by_a_shortest_way():
    env, hops = make_aliased_graph_env(GRAPH), compute_optimal_hops(GRAPH)
    node_observations, next_nodes = np.asarray(GRAPH.node_observations), np.asarray(GRAPH.next_nodes)
    step, starts = jax.jit(env.step), set()
    states, first_observations = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 400))
    for row in range(400):
        starts.add((int(states.node[row]), int(states.goal[row])))
        if row >= 20:
            continue
        state, observation = jax.tree.map(lambda x: x[row], states), first_observations[row]  # noqa: B023
        goal, num_hops = int(state.goal), int(hops[int(state.node), int(state.goal)])
        for hop in range(num_hops):
            node = int(state.node)
            expected = np.zeros(9 + 3)
            expected[[node_observations[node], 9 + goal]] = 1
            np.testing.assert_array_equal(observation, expected)
            action = int(np.argmin(hops[next_nodes[node], goal]))
            state, observation, reward, terminated, truncated = step(jax.random.key(0), state, jnp.int32(action))
            assert (float(reward), bool(terminated), bool(truncated)) == (hop == num_hops - 1,) * 2 + (False,)
    assert starts == {tuple(pair) for pair in np.argwhere(np.isfinite(hops) & (hops > 0)).tolist()}


def test_an_agent_that_stands_still_is_truncated():
    env = make_aliased_graph_env(GRAPH)
    state, _ = env.reset(jax.random.key(0))
    stay = int(np.flatnonzero(np.asarray(GRAPH.next_nodes)[int(state.node)] == int(state.node))[0])
    time_steps = jax.jit(jax.vmap(lambda count: env.step(None, state._replace(num_steps=count), jnp.int32(stay))))(
        jnp.arange(env.max_episode_steps)
    )
    assert np.asarray(time_steps.truncated).tolist() == [False] * (env.max_episode_steps - 1) + [True]
    assert not np.asarray(time_steps.reward).any()


def test_a_graph_without_a_way_to_its_goal_is_refused():
    alone = AliasedGraph(jnp.array([0, 0, 1]), jnp.array([[1, 0], [0, 1], [2, 2]]), jnp.array([2]))
    with pytest.raises(ValueError, match="graph: no goal can be reached"):
        make_aliased_graph_env(alone)
