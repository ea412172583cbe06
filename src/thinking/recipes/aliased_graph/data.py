"""The worlds of all seeds.

Axes: S worlds, N nodes, G goals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments.aliased_graph import AliasedGraph, compute_optimal_hops, make_aliased_graph
from thinking.recipes.aliased_graph.config import AliasedGraphConfig


def make_worlds(config: AliasedGraphConfig, seeds: range) -> tuple[AliasedGraph, np.ndarray]:
    """One world a seed.

    Returns:
        The worlds, with a leading axis S; and [S, N, G] float, hops of one who sees nodes, inf where there is no way.

    Raises:
        ValueError: in one of them no goal can be reached from another node.
    """
    shared, goals = config.num_nodes // 2, max(1, config.num_nodes // 4)
    worlds = [make_aliased_graph(shared, goals, config.edge_probability, seed) for seed in seeds]
    optimum = np.stack([compute_optimal_hops(world) for world in worlds])
    for seed, hops in zip(seeds, optimum, strict=True):
        if not is_counted(hops).any():
            raise ValueError(
                f"edge_probability {config.edge_probability}: in the graph of seed {seed} no goal can be reached; "
                "take a larger one, or another seed"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *worlds), optimum


def is_counted(optimum: np.ndarray) -> np.ndarray:
    """Which pairs of a start and a goal count: those that are not the same node and have a way between them."""
    return np.isfinite(optimum) & (optimum > 0)
