"""Think: nothing is observed; a whole plan is unrolled from the layers' own values.

The top layer unrolls sub-goals up to the goal, feeding its own values back; each lower layer fills every leg, its
memory reset for each. That nested unrolling is done lazily, hop by hop: a layer is asked for its next sub-goal when the
layer below has come to the last one. The plan is the same, and one flat loop serves any depth.

Axes: B rows, L layers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from thinking.guide.hippocampus import Memory, append, is_same, reset, select
from thinking.guide.plan import Plan, unroll_plan
from thinking.guide.react import InferFn
from thinking.types import Array, State

ApplyFn = Callable[[Array, Array], Array]
"""`apply(state [B, ...], action [B, ...]) -> state [B, ...]`: where the task's own model says an action leads."""


class ThinkState(NamedTuple):
    """What thinking carries from hop to hop.

    Attributes:
        memories: of each layer, what it lived since its target was set.
        targets: of each layer, what it pursues, [B, ...]; the top's is the goal.
        has_targets: [B] bool, whether the targets were set at all.
    """

    memories: tuple[Memory, ...]
    targets: tuple[Array, ...]
    has_targets: Array


def think(
    infer_layer: InferFn,
    state: State,
    num_layers: int,
    init_memory: Callable[[int], Memory],
    start: Array,
    goal: Array,
    *,
    max_hops: int,
    apply: ApplyFn | None = None,
) -> Plan:
    """Plan for a whole batch of (start, goal) pairs.

    Args:
        infer_layer: asks a layer.
        state: of the guide.
        num_layers: L.
        init_memory: `remember(rows) -> Memory`, empty.
        start: [B, ...] states.
        goal: [B, ...] states.
        max_hops: bound on the steps of the lowest layer.
        apply: where an action leads; None if the lowest layer's values are states.
    """

    def advance(thought: ThinkState, here: Array, alive: Array) -> tuple[ThinkState, Array, tuple[Array, ...]]:
        memories, targets = list(thought.memories), list(thought.targets)
        renewed = ~thought.has_targets  # where the target of the layer at hand is new
        for layer in range(num_layers - 1, 0, -1):
            finished = renewed | is_same(here, targets[layer - 1])
            memories[layer] = append(reset(memories[layer], renewed), here, finished)
            sub_goal, _ = infer_layer(state, layer, memories[layer], targets[layer])
            targets[layer - 1] = select(finished, sub_goal, targets[layer - 1])
            renewed = finished
        memories[0] = append(reset(memories[0], renewed), here)
        value, known = infer_layer(state, 0, memories[0], targets[0])
        # Who does not know a step must not dream of being at the goal.
        moved = select(known, value, here) if apply is None else apply(here, value)
        return ThinkState(tuple(memories), tuple(targets), thought.has_targets | alive), moved, tuple(targets)

    rows = start.shape[0]
    # The lower targets are set by the first hop; until then the goal stands in for its shape.
    first = ThinkState(tuple(init_memory(rows) for _ in range(num_layers)), (goal,) * num_layers, jnp.zeros(rows, bool))
    return unroll_plan(advance, first, start, lambda here: is_same(here, goal), max_hops)
