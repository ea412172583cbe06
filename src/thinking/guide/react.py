"""React, closed-loop planning: observe, infer all layers from the top, act once.

Axes: B rows, L layers.
"""

from collections.abc import Callable
from typing import NamedTuple

from thinking.guide.hippocampus import Memory, append
from thinking.guide.plan import Plan, unroll_plan
from thinking.types import Array, State

InferFn = Callable[[State, int, Memory, Array], tuple[Array, Array]]
"""`infer_layer(state, layer, memory, target [B, ...]) -> (value [B, ...], is_known [B] bool)`.

Without an entry the value is the target."""


class Reaction(NamedTuple):
    """The guide's decision after an observation.

    Attributes:
        value: [B, ...] the lowest layer's value: an action or the next state.
        targets: each layer's target, the lowest first: L arrays [B, ...]; the last is the goal.
    """

    value: Array
    targets: tuple[Array, ...]


def react(infer_layer: InferFn, state: State, num_layers: int, memory: Memory, goal: Array) -> Reaction:
    """Each layer from the top replaces the target by its sub-goal; the lowest gives one action."""
    targets = [goal]
    for layer in range(num_layers - 1, 0, -1):
        targets.append(infer_layer(state, layer, memory, targets[-1])[0])
    return Reaction(infer_layer(state, 0, memory, targets[-1])[0], tuple(reversed(targets)))


def pursue(
    react: Callable[[Memory, Array], Reaction],
    memory: Memory,
    start: Array,
    goal: Array,
    *,
    observe: Callable[[Array], Array],
    step: Callable[[Array, Array], Array],
    is_at_goal: Callable[[Array], Array],
    max_hops: int,
) -> Plan:
    """React in an environment until the goal is reached; the plan's states are those of the environment.

    Args:
        react: `react(memory, goal) -> Reaction`.
        memory: empty, one row for each start.
        start: [B, ...] states of the environment.
        goal: [B, ...] as the guide represents it.
        observe: `observe(env_state) -> observation`.
        step: `step(env_state, value) -> env_state`.
        is_at_goal: `is_at_goal(env_state) -> [B] bool`.
        max_hops: maximum number of actions.
    """

    def hop(memory: Memory, env_state: Array, alive: Array) -> tuple[Memory, Array, tuple[Array, ...]]:
        memory = append(memory, observe(env_state), alive)
        reaction = react(memory, goal)
        return memory, step(env_state, reaction.value), reaction.targets

    return unroll_plan(hop, memory, start, is_at_goal, max_hops)
