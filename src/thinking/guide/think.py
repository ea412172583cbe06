"""Think, open-loop planning: without observations, a whole plan is unrolled from the layers' own values.

The top layer unrolls sub-goals up to the goal from its own values; each lower layer fills every segment between them,
with its memory reset for each. This nested unrolling is lazy: a layer infers its next sub-goal once the layer below
has reached the last one. The plan is the same, and one flat loop serves any depth.

Axes: B rows, L layers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from thinking.guide.hippocampus import Memory, append, is_same, reset
from thinking.guide.plan import Plan, unroll_plan
from thinking.guide.react import InferFn
from thinking.trees import select_rows
from thinking.types import Array, State

ApplyFn = Callable[[Array, Array], Array]
"""`apply(state [B, ...], action [B, ...]) -> state [B, ...]`: the transition model of the task."""


class ThinkState(NamedTuple):
    """The carry from hop to hop.

    Attributes:
        memories: of each layer, its states since its target was set.
        targets: of each layer, [B, ...]; the top's is the goal.
        has_targets: [B] bool, whether the targets are set.
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
    """Plan for a batch of (start, goal) pairs.

    Args:
        infer_layer: infers the value of a layer.
        state: of the guide.
        num_layers: L.
        init_memory: `init_memory(rows) -> Memory`, empty.
        start: [B, ...] states, as is `goal`.
        goal: the goals.
        max_hops: maximum steps of the lowest layer.
        apply: the transition model; None if the lowest layer's values are states.
    """

    def hop(think_state: ThinkState, present: Array, alive: Array) -> tuple[ThinkState, Array, tuple[Array, ...]]:
        memories, targets = list(think_state.memories), list(think_state.targets)
        is_new_target = ~think_state.has_targets  # where the target of the current layer is new
        for layer in range(num_layers - 1, 0, -1):
            is_finished = is_new_target | is_same(present, targets[layer - 1])
            memories[layer] = append(reset(memories[layer], is_new_target), present, is_finished)
            sub_goal, _ = infer_layer(state, layer, memories[layer], targets[layer])
            targets[layer - 1] = select_rows(is_finished, sub_goal, targets[layer - 1])
            is_new_target = is_finished
        memories[0] = append(reset(memories[0], is_new_target), present)
        value, is_known = infer_layer(state, 0, memories[0], targets[0])
        # Without an entry the value is the target: the state must not jump there.
        next_state = select_rows(is_known, value, present) if apply is None else apply(present, value)
        return ThinkState(tuple(memories), tuple(targets), think_state.has_targets | alive), next_state, tuple(targets)

    rows = start.shape[0]
    # The first hop sets the lower targets; until then the goal is a placeholder of the same shape.
    init_state = ThinkState(
        tuple(init_memory(rows) for _ in range(num_layers)), (goal,) * num_layers, jnp.zeros(rows, bool)
    )
    return unroll_plan(hop, init_state, start, lambda present: is_same(present, goal), max_hops)
