"""A graph with aliased observations: an observation does not determine the node.

Every observation belongs to two nodes, except for the goals, whose observations are unique. An action is an
observation: it moves to the successor with that observation, or, if two successors have it, to the one of the lower
index. Where no successor has it, the agent stays; the action still counts as a hop.

Axes: N nodes, O observations, B rows, W walks, T states of a walk, G goals, P pairs of a start and a goal.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np

from thinking.environment import TimeStep
from thinking.environments.graph import make_random_graph, to_device
from thinking.types import Array


class AliasedGraph(NamedTuple):
    """The environment's tables, on the device.

    Attributes:
        node_observations: [N] int32, the observation at each node.
        next_nodes: [N, O] int32, the next node for each action; the node itself where the action is invalid.
        goals: [G] int32, the nodes with unique observations.
    """

    node_observations: Array
    next_nodes: Array
    goals: Array

    @property
    def num_observations(self) -> int:
        """O."""
        return self.next_nodes.shape[1]


def make_aliased_graph(num_shared: int, num_goals: int, edge_probability: float, seed: int) -> AliasedGraph:
    """A random directed graph of `2 * num_shared + num_goals` nodes: two per shared observation, one per goal.

    Raises:
        ValueError: without a goal.
    """
    if num_goals < 1:
        raise ValueError(f"num_goals {num_goals}: allowed is at least 1, a node with an observation of its own")
    num_nodes = 2 * num_shared + num_goals
    graph = to_device(make_random_graph(num_nodes, edge_probability, seed))
    rng = np.random.default_rng(seed)
    observations = np.concatenate(
        [rng.permutation(np.repeat(np.arange(num_shared), 2)), num_shared + np.arange(num_goals)]
    )
    next_nodes = np.repeat(np.arange(num_nodes)[:, None], num_shared + num_goals, axis=1)
    for node, successors in enumerate(np.asarray(graph.successors)):
        for successor in successors[successors >= 0][::-1]:  # the lowest is written last
            next_nodes[node, observations[successor]] = successor
    return AliasedGraph(
        *(jnp.asarray(part, jnp.int32) for part in (observations, next_nodes, np.arange(2 * num_shared, num_nodes)))
    )


def sample_aliased_walks(
    graph: AliasedGraph, key: Array, num_walks: int, num_states: int, random_fraction: float
) -> tuple[Array, Array]:
    """Observations of random walks from random nodes; consumes the key.

    Args:
        graph: the environment.
        key: typed PRNG key.
        num_walks: W.
        num_states: T.
        random_fraction: probability of an action drawn from all observations, most of them invalid; otherwise a valid
            action is drawn.

    Returns:
        [W, T] int32 observations, and [W] int32 lengths, all T.
    """
    num_nodes = graph.next_nodes.shape[0]
    start_key, walk_key = jax.random.split(key)
    start = jax.random.randint(start_key, (num_walks,), 0, num_nodes)

    def step(node: Array, key: Array) -> tuple[Array, Array]:
        any_key, choice_key = jax.random.split(key)
        is_valid = graph.next_nodes[node] != node[:, None]
        is_random = jax.random.uniform(any_key, (num_walks, 1)) < random_fraction
        action = jax.random.categorical(choice_key, jnp.where(is_valid | is_random, 0.0, -1e9))
        return graph.next_nodes[node, action], graph.node_observations[node]

    _, observations = jax.lax.scan(step, start, jax.random.split(walk_key, num_states))
    return observations.T, jnp.full(num_walks, num_states)


def compute_optimal_hops(graph: AliasedGraph) -> np.ndarray:
    """[N, G] float, shortest path lengths from each node to each goal (networkx); inf where there is no path."""
    next_nodes = np.asarray(graph.next_nodes)
    edges = [(node, int(successor)) for node, row in enumerate(next_nodes) for successor in row if successor != node]
    backward = nx.DiGraph(edges).reverse()
    backward.add_nodes_from(range(len(next_nodes)))
    hops = np.full((len(next_nodes), len(graph.goals)), np.inf)
    for column, goal in enumerate(np.asarray(graph.goals)):
        for node, distance in nx.single_source_shortest_path_length(backward, int(goal)).items():
            hops[node, column] = distance
    return hops


class GoalState(NamedTuple):
    """Where an agent is, and where it is to go.

    Attributes:
        node: [] int32.
        goal: [] int32, an index of the graph's goals.
        num_steps: [] int32, steps so far.
    """

    node: Array
    goal: Array
    num_steps: Array


@dataclass(frozen=True)
class AliasedGraphEnv:
    """Episodes in an aliased graph, each from a random node to a random goal that can be reached from it.

    An observation is the node's observation and the goal, each one-hot: [O + G]. Reaching the goal ends the episode
    with a reward of 1; every other step has none.

    Attributes:
        graph: the graph.
        pairs: [P, 2] int32, start nodes and indices of goals.
        max_episode_steps: steps after which an episode is truncated.
    """

    graph: AliasedGraph
    pairs: Array
    max_episode_steps: int

    @property
    def observation_dim(self) -> int:
        """O + G."""
        return self.graph.num_observations + len(self.graph.goals)

    def reset(self, key: Array) -> tuple[GoalState, Array]:
        """Start an episode: state and observation. Consumes the key."""
        node, goal = jax.random.choice(key, self.pairs)
        state = GoalState(node, goal, jnp.int32(0))
        return state, self._observe(state)

    def step(self, key: Array, state: GoalState, action: Array) -> TimeStep:
        """Move to the successor with the observation `action`. A step is not random."""
        del key
        state = GoalState(self.graph.next_nodes[state.node, action], state.goal, state.num_steps + 1)
        terminated = state.node == self.graph.goals[state.goal]
        truncated = (state.num_steps >= self.max_episode_steps) & ~terminated
        return TimeStep(state, self._observe(state), terminated.astype(jnp.float32), terminated, truncated)

    def _observe(self, state: GoalState) -> Array:
        observation = jax.nn.one_hot(self.graph.node_observations[state.node], self.graph.num_observations)
        return jnp.concatenate([observation, jax.nn.one_hot(state.goal, len(self.graph.goals))])


def make_aliased_graph_env(graph: AliasedGraph) -> AliasedGraphEnv:
    """Episodes of at most four times the longest shortest path.

    Raises:
        ValueError: if no goal can be reached from another node.
    """
    hops = compute_optimal_hops(graph)
    is_pair = np.isfinite(hops) & (hops > 0)
    if not is_pair.any():
        raise ValueError("graph: no goal can be reached from another node; take one with more edges")
    return AliasedGraphEnv(graph, jnp.asarray(np.argwhere(is_pair), jnp.int32), int(4 * hops[is_pair].max()))
