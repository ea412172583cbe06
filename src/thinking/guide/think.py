"""Think: nothing is observed; a whole plan is unrolled from the layers' own values.

The top layer unrolls sub-goals up to the goal, feeding its own values back; each lower layer fills every leg, its
memory reset for each. That nested unrolling is done lazily, hop by hop: a layer is asked for its next sub-goal when the
layer below has come to the last one. The plan is the same, and one flat loop serves any depth.

Axes: B rows, L layers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from thinking.guide.hippocampus import Memory, append, reset, same, select
from thinking.guide.plan import Plan, roll
from thinking.guide.react import Ask
from thinking.types import Array, State

Apply = Callable[[Array, Array], Array]
"""`apply(state [B, ...], action [B, ...]) -> state [B, ...]`: where the task's own model says an action leads."""


class Thought(NamedTuple):
    """What thinking carries from hop to hop.

    Attributes:
        memories: of each layer, what it lived since its target was set.
        targets: of each layer, what it pursues, [B, ...]; the top's is the goal.
        set: [B] bool, whether the targets were set at all.
    """

    memories: tuple[Memory, ...]
    targets: tuple[Array, ...]
    set: Array


def think(
    ask: Ask,
    state: State,
    layers: int,
    remember: Callable[[int], Memory],
    start: Array,
    goal: Array,
    *,
    max_hops: int,
    apply: Apply | None = None,
) -> Plan:
    """Plan for a whole batch of (start, goal) pairs.

    Args:
        ask: asks a layer.
        state: of the guide.
        layers: L.
        remember: `remember(rows) -> Memory`, empty.
        start: [B, ...] states.
        goal: [B, ...] states.
        max_hops: bound on the steps of the lowest layer.
        apply: where an action leads; None if the lowest layer's values are states.
    """

    def advance(thought: Thought, here: Array, alive: Array) -> tuple[Thought, Array, tuple[Array, ...]]:
        memories, targets = list(thought.memories), list(thought.targets)
        renewed = ~thought.set  # where the target of the layer at hand is new
        for layer in range(layers - 1, 0, -1):
            finished = renewed | same(here, targets[layer - 1])
            memories[layer] = append(reset(memories[layer], renewed), here, finished)
            sub_goal, _ = ask(state, layer, memories[layer], targets[layer])
            targets[layer - 1] = select(finished, sub_goal, targets[layer - 1])
            renewed = finished
        memories[0] = append(reset(memories[0], renewed), here)
        value, known = ask(state, 0, memories[0], targets[0])
        # Who does not know a step must not dream of being at the goal.
        moved = select(known, value, here) if apply is None else apply(here, value)
        return Thought(tuple(memories), tuple(targets), thought.set | alive), moved, tuple(targets)

    rows = start.shape[0]
    # The lower targets are set by the first hop; until then the goal stands in for its shape.
    first = Thought(tuple(remember(rows) for _ in range(layers)), (goal,) * layers, jnp.zeros(rows, bool))
    return roll(advance, first, start, lambda here: same(here, goal), max_hops)
