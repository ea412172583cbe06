"""Planners on a graph: a guide that looks at every step, one that does not look, and one that goes anywhere.

Axes: B pairs planned in one call.
"""

import jax
from jax.tree_util import Partial

from thinking.environments.graph import Graph, sample_step, step
from thinking.guide import Guide, GuideState, Plan
from thinking.guide.plan import unroll_plan
from thinking.guide.react import pursue
from thinking.types import Array

Planner = Partial
"""`planner(start [B], goal [B]) -> Plan`; a PyTree that carries what it knows, so that jitted functions may take it."""


def think_planner(guide: Guide, state: GuideState, max_hops: int) -> Planner:
    """The guide as a planner that does not look."""
    return Partial(lambda state, start, goal: guide.think(state, start, goal, max_hops=max_hops), state)


def react_planner(guide: Guide, state: GuideState, max_hops: int, graph: Graph) -> Planner:
    """The guide as a planner that looks where it is before every hop."""

    def plan(state: GuideState, graph: Graph, start: Array, goal: Array) -> Plan:
        return pursue(
            lambda memory, goal: guide.react(state, memory, goal),
            guide.init_memory(start.shape[0]),
            start,
            goal,
            observe=lambda node: node,
            step=lambda node, value: step(graph, node, value),
            is_at_goal=lambda node: node == goal,
            max_hops=max_hops,
        )

    return Partial(plan, state, graph)


def random_planner(graph: Graph, key: Array, max_hops: int) -> Planner:
    """The planner to beat: takes random edges until it happens upon the goal. Consumes the key."""

    def plan(graph: Graph, key: Array, start: Array, goal: Array) -> Plan:
        def advance(key: Array, node: Array, alive: Array) -> tuple[Array, Array, tuple[Array, ...]]:
            key, step_key = jax.random.split(key)
            return key, sample_step(graph, step_key, node), (goal,)

        return unroll_plan(advance, key, start, lambda node: node == goal, max_hops)

    return Partial(plan, graph, key)
