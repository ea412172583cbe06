"""Planners on a graph: react (closed-loop planning), think (open-loop planning), and a random baseline.

Axes: B pairs per batch.
"""

import jax
from jax.tree_util import Partial

from thinking.environments.graph import Graph, sample_step, step
from thinking.guide import Guide, GuideState, Plan
from thinking.guide.plan import unroll_plan
from thinking.guide.react import pursue
from thinking.types import Array

Planner = Partial
"""`planner(start [B], goal [B]) -> Plan`; a PyTree with its state as leaves, so jitted functions may take it."""


def think_planner(guide: Guide, state: GuideState, max_hops: int) -> Planner:
    """The guide as an open-loop planner."""
    return Partial(lambda state, start, goal: guide.think(state, start, goal, max_hops=max_hops), state)


def react_planner(guide: Guide, state: GuideState, max_hops: int, graph: Graph) -> Planner:
    """The guide as a closed-loop planner, which observes its node before every hop."""

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
    """The random baseline: takes random edges until it reaches the goal. Consumes the key."""

    def plan(graph: Graph, key: Array, start: Array, goal: Array) -> Plan:
        def step_fn(key: Array, node: Array, alive: Array) -> tuple[Array, Array, tuple[Array, ...]]:
            key, step_key = jax.random.split(key)
            return key, sample_step(graph, step_key, node), (goal,)

        return unroll_plan(step_fn, key, start, lambda node: node == goal, max_hops)

    return Partial(plan, graph, key)
