"""Evaluation: closed-loop planning (react) from every node to every goal, in all environments at once.

Axes: S environments, N nodes, G goals, K tags, H maximum hops.
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
    envs: AliasedGraph,
    frequencies: Array,
    key: Array,
    max_hops: int,
) -> Plan:
    """React from every node to every goal.

    Args:
        config, condition: of the guides.
        states: of the guides, [S, ...].
        envs: the environments, [S, ...].
        frequencies: [S, K], how often each true tag occurred while acting; random tags are drawn with them.
        key: of random tags; consumed.
        max_hops: H.

    Returns:
        A plan [S, N * G, ...].
    """

    def react_in_env(state: GuideState, env: AliasedGraph, frequencies: Array) -> Plan:
        guide = make_guide(config, condition, condition.make_tagging(frequencies, key), env.num_observations)
        start = jnp.repeat(jnp.arange(env.node_observations.shape[0]), env.goals.shape[0])
        goal = jnp.tile(env.goals, env.node_observations.shape[0])
        return pursue(
            lambda memory, target: guide.react(state, memory, target),
            guide.init_memory(start.shape[0]),
            start,
            env.node_observations[goal],
            observe=lambda node: env.node_observations[node],
            step=lambda node, action: env.next_nodes[node, action],
            is_at_goal=lambda node: node == goal,
            max_hops=max_hops,
        )

    return jax.jit(jax.vmap(react_in_env))(states, envs, frequencies)


def compute_acting_frequencies(config: Config, envs: AliasedGraph, plans: Plan) -> Array:
    """[S, K] frequencies of the true tags at the steps of plans [S, N * G, ...]."""

    def compute_frequencies(env: AliasedGraph, plan: Plan) -> Array:
        observations = env.node_observations[plan.states[:, :-1]]
        has_acted = jnp.arange(observations.shape[1])[None] < plan.hops[:, None]
        return compute_tag_frequencies(config.guide.num_tags, observations, has_acted)

    return jax.vmap(compute_frequencies)(envs, plans)


def compute_metrics(plans: Plan, optimum: np.ndarray) -> dict[str, int | float | None]:
    """Metrics of a row of results, over all environments; a ratio is None where nothing was solved.

    Hops need no verification, as the environment allows edges alone.

    Args:
        plans: [S, N * G, ...].
        optimum: [S, N, G], shortest hops.
    """
    best = optimum.reshape(len(optimum), -1)
    counted = is_counted(best)
    solved = np.asarray(plans.arrived) & counted
    fractions = solved.sum(1) / counted.sum(1)
    ratios = np.asarray(plans.hops)[solved] / best[solved]
    return {
        "num_pairs": int(counted.sum()),
        "num_solved": int(solved.sum()),
        "solved_fraction": float(fractions.mean()),
        "solved_fraction_std": float(fractions.std(ddof=1)),
        "mean_length_ratio": float(ratios.mean()) if ratios.size else None,
    }
