"""The environments of all seeds.

Axes: S environments, N nodes, G goals.
"""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments.aliased_graph import AliasedGraph, compute_optimal_hops, make_aliased_graph
from thinking.recipes.aliased_graph.config import AliasedGraphConfig


def make_envs(config: AliasedGraphConfig, seeds: range) -> tuple[AliasedGraph, np.ndarray]:
    """One environment per seed.

    Returns:
        The environments, with a leading axis S; and [S, N, G] float, shortest hops, inf for unreachable goals.

    Raises:
        ValueError: if in one of them no goal can be reached from another node.
    """
    shared, goals = config.num_nodes // 2, max(1, config.num_nodes // 4)
    envs = [make_aliased_graph(shared, goals, config.edge_probability, seed) for seed in seeds]
    optimal_hops = np.stack([compute_optimal_hops(env) for env in envs])
    for seed, hops in zip(seeds, optimal_hops, strict=True):
        if not is_counted(hops).any():
            raise ValueError(
                f"edge_probability {config.edge_probability}: in the graph of seed {seed} no goal can be reached; "
                "take a larger one, or another seed"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *envs), optimal_hops


def is_counted(optimal_hops: np.ndarray) -> np.ndarray:
    """Which pairs of start and goal are evaluated: distinct nodes with a path between them."""
    return np.isfinite(optimal_hops) & (optimal_hops > 0)
