"""React: look, ask every layer from the top, act once; then the world moves.

Axes: B rows, L layers.
"""

from collections.abc import Callable
from typing import NamedTuple

from thinking.guide.hippocampus import Memory, append
from thinking.guide.plan import Plan, unroll_plan
from thinking.types import Array, State

InferFn = Callable[[State, int, Memory, Array], tuple[Array, Array]]
"""`ask(state, layer, memory, target [B, ...]) -> (value [B, ...], known [B] bool)`.

Where a layer knows nothing, its value is the target."""


class Reaction(NamedTuple):
    """What the guide does about what it sees.

    Attributes:
        value: [B, ...] the lowest layer's answer: an action or the next state.
        targets: what each layer pursued, the lowest first: L arrays [B, ...]; the last is the goal.
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
    """React in a world until the goal is reached.

    Args:
        react: `react(memory, goal) -> Reaction`.
        memory: empty, one row for each start.
        start: [B, ...] states of the world.
        goal: [B, ...] as the guide knows it.
        observe: `observe(world) -> what the guide sees of it`.
        step: `step(world, value) -> world`, how the world moves.
        is_at_goal: `at_goal(world) -> [B] bool`.
        max_hops: how often the guide may act.

    Returns:
        A plan whose states are the world's.
    """

    def advance(memory: Memory, world: Array, alive: Array) -> tuple[Memory, Array, tuple[Array, ...]]:
        memory = append(memory, observe(world), alive)
        reaction = react(memory, goal)
        return memory, step(world, reaction.value), reaction.targets

    return unroll_plan(advance, memory, start, is_at_goal, max_hops)
