"""A world whose nodes look alike."""

import jax
import numpy as np

from thinking.environments.aliased_graph import compute_optimal_hops, make_aliased_graph, sample_aliased_walks
from thinking.environments.graph import make_random_graph

WORLD = make_aliased_graph(num_shared=6, num_goals=3, edge_probability=0.3, seed=1)


def test_two_nodes_share_each_observation_and_goals_share_none():
    counts = np.bincount(np.asarray(WORLD.node_observations))
    assert counts.tolist() == [2] * 6 + [1] * 3
    assert np.asarray(WORLD.goals).tolist() == [12, 13, 14]
    assert sorted(np.asarray(WORLD.node_observations)[12:]) == [6, 7, 8]


def test_an_action_leads_to_the_lowest_successor_that_shows_it_and_else_nowhere():
    graph, shows = make_random_graph(15, 0.3, 1), np.asarray(WORLD.node_observations)
    for node in range(15):
        for action in range(WORLD.num_observations):
            shown = [int(s) for s in graph.successors(str(node)) if shows[int(s)] == action]
            assert int(WORLD.next_nodes[node, action]) == min(shown, default=node)


def test_walks_see_what_the_world_shows_and_are_refused_now_and_then():
    walks, states = 200, 30
    seen, length = sample_aliased_walks(WORLD, jax.random.key(0), walks, states, random_fraction=0.5)
    assert seen.shape == (walks, states)
    assert (length == states).all()
    shows, leads = np.asarray(WORLD.node_observations), np.asarray(WORLD.next_nodes)
    possible = {(shows[a], shows[b]) for a in range(15) for b in leads[a]}
    pairs = set(zip(np.asarray(seen[:, :-1]).ravel().tolist(), np.asarray(seen[:, 1:]).ravel().tolist(), strict=True))
    assert pairs <= possible
    stays = np.mean(np.asarray(seen[:, :-1] == seen[:, 1:]))
    never, _ = sample_aliased_walks(WORLD, jax.random.key(0), walks, states, random_fraction=0.0)
    assert stays > 0.2 > np.mean(np.asarray(never[:, :-1] == never[:, 1:]))


def test_the_optimum_is_that_of_one_who_sees_nodes():
    hops = compute_optimal_hops(WORLD)
    leads = np.asarray(WORLD.next_nodes)
    for column, goal in enumerate(np.asarray(WORLD.goals)):
        reached, frontier, distance = {int(goal): 0}, {int(goal)}, 0
        while frontier:
            distance += 1
            frontier = {n for n in range(15) if n not in reached and set(leads[n].tolist()) & frontier}
            reached |= dict.fromkeys(frontier, distance)
        assert [reached.get(node, np.inf) for node in range(15)] == hops[:, column].tolist()
