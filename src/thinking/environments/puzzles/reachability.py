"""Which nodes of a random directed graph can be reached from a start.

Axes: N nodes.
"""

import jax
import jax.numpy as jnp

from thinking.environments.puzzles.puzzle import Puzzle, PuzzleFamily
from thinking.types import Array

_MAX_PREDECESSORS = 3
_EDGE_PROBABILITY = 0.5


def reachability() -> PuzzleFamily:
    """Random graphs in which a node has up to three predecessors, 1.5 on average; the size is the number of nodes.

    Feature: whether the node is the start. Neighbors: its predecessors. Answer: 1 where a path leads there. At 1.5
    edges a node, two fifths of the nodes can be reached, over paths that grow with the logarithm of the size.
    """
    return PuzzleFamily("reachability", _sample, num_features=1, num_relations=1, num_classes=2)


def _sample(key: Array, size: int) -> Puzzle:
    node_key, edge_key, start_key = jax.random.split(key, 3)
    shape = size, _MAX_PREDECESSORS
    nodes = jax.random.randint(node_key, shape, 0, size)
    has_edge = jax.random.bernoulli(edge_key, _EDGE_PROBABILITY, shape)
    is_start = jnp.arange(size) == jax.random.randint(start_key, (), 0, size)

    def extend(reached: Array) -> Array:
        return reached | jnp.any(has_edge & reached[nodes], axis=1)

    def is_growing(state: tuple[Array, Array]) -> Array:
        return jnp.any(state[0] != state[1])

    _, reached = jax.lax.while_loop(
        is_growing, lambda state: (state[1], extend(state[1])), (jnp.zeros_like(is_start), is_start)
    )
    predecessors = jnp.where(has_edge, nodes, -1).astype(jnp.int32)
    return Puzzle(is_start[:, None].astype(jnp.float32), predecessors[None], reached.astype(jnp.int32))
