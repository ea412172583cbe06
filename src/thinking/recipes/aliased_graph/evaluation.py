"""Evaluation: reacting from every node to every goal, in all worlds at once.

Axes: S worlds, N nodes, G goals, K tags, H hops allowed.
"""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.environments.aliased_graph import AliasedGraph
from thinking.guide import GuideState, Plan
from thinking.guide.react import pursue
from thinking.recipes.aliased_graph.config import Config
from thinking.recipes.aliased_graph.data import is_counted
from thinking.recipes.aliased_graph.model import Condition, compute_tag_frequencies, make_guide
from thinking.types import Array


def react_to_all(
    config: Config,
    condition: Condition,
    states: GuideState,
    worlds: AliasedGraph,
    frequencies: Array,
    key: Array,
    max_hops: int,
) -> Plan:
    """React from every node to every goal.

    Args:
        config: of the guides.
        condition: what was trained.
        states: of the guides, with a leading axis S.
        worlds: all worlds, with a leading axis S.
        frequencies: [S, K], of true tags where a guide acts.
        key: of random tags; consumed.
        max_hops: H.

    Returns:
        A plan with the axes [S, N * G, ...].
    """

    def solve(state: GuideState, world: AliasedGraph, frequencies: Array) -> Plan:
        guide = make_guide(config, condition, condition.make_tagging(frequencies, key), world.num_observations)
        start = jnp.repeat(jnp.arange(world.node_observations.shape[0]), world.goals.shape[0])
        goal = jnp.tile(world.goals, world.node_observations.shape[0])
        return pursue(
            lambda memory, target: guide.react(state, memory, target),
            guide.init_memory(start.shape[0]),
            start,
            world.node_observations[goal],
            observe=lambda node: world.node_observations[node],
            step=lambda node, action: world.next_nodes[node, action],
            is_at_goal=lambda node: node == goal,
            max_hops=max_hops,
        )

    return jax.jit(jax.vmap(solve))(states, worlds, frequencies)


def compute_acting_frequencies(config: Config, worlds: AliasedGraph, plans: Plan) -> Array:
    """[S, K] how frequent each true tag is where a guide acted, which made plans [S, N * G, ...]."""

    def one(world: AliasedGraph, plan: Plan) -> Array:
        observations = world.node_observations[plan.states[:, :-1]]
        acted = jnp.arange(observations.shape[1])[None] < plan.hops[:, None]
        return compute_tag_frequencies(config.guide.num_tags, observations, acted)

    return jax.vmap(one)(worlds, plans)


def compute_metrics(plans: Plan, optimum: np.ndarray) -> dict[str, int | float | None]:
    """The figures of a row of results, over all worlds; a ratio is None where nothing was solved.

    No hop needs a check: the world itself answers an action by an edge or by a refused move.

    Args:
        plans: [S, N * G, ...].
        optimum: [S, N, G], hops of one who sees nodes.
    """
    best = optimum.reshape(len(optimum), -1)
    counted = is_counted(best)
    solved = np.asarray(plans.arrived) & counted
    fractions = solved.sum(1) / counted.sum(1)
    ratios = np.asarray(plans.hops)[solved] / best[solved]
    return {
        "pairs": int(counted.sum()),
        "solved": int(solved.sum()),
        "solved_fraction": float(fractions.mean()),
        "solved_fraction_std": float(fractions.std(ddof=1)),
        "mean_length_ratio": float(ratios.mean()) if ratios.size else None,
    }
