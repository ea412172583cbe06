"""The guide: a hierarchical goal-conditioned planner of stacked kernels.

Its layers learn from observed trajectories, and turn a goal into sub-goals and steps. As with kernels, a constructor
returns pure functions over one state PyTree, so a guide jits, vmaps over seeds, scans over steps, and is saved by one
call.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.abstraction import Abstraction, pivot_levels
from thinking.guide.hindsight import Pairs, Trajectories, flatten_examples, make_examples, make_queries, select_pairs
from thinking.guide.hippocampus import Memory, init_memory, is_same, recall
from thinking.guide.layers import LayerStack, stack_layers
from thinking.guide.react import InferFn, Reaction, react
from thinking.guide.scoring import Scoring, check_trajectories, monte_carlo, score_by_bootstrapping, score_trajectory
from thinking.guide.tagging import Tagging, attach_tags, mask_repeats, tag_context, untagged_space
from thinking.guide.think import ApplyFn, Plan, think
from thinking.kernels.contract import Context, Kernel, Transition
from thinking.trees import select_rows
from thinking.types import Array, Box, Metrics, Space, State


class GuideState(NamedTuple):
    """The state of a guide.

    Attributes:
        layers: kernel states; those of adjacent layers that are the same kernel are stacked.
        abstraction: state of the abstraction.
    """

    layers: tuple[State, ...]
    abstraction: State


class Guide(NamedTuple):
    """A guide's pure functions.

    Attributes:
        init: `init(key) -> GuideState`; consumes the key.
        observe: `observe(state, trajectories: Trajectories) -> (state, metrics)` learns from them; metrics are
            `layer_N/NAME`.
        init_memory: `init_memory(rows) -> Memory`, empty, for `react`; to be reset when the goal changes.
        react: `react(state, memory, goal [B, ...]) -> Reaction`, closed-loop planning: one action from what was
            observed.
        think: `think(state, start [B, ...], goal [B, ...], max_hops=..., apply=...) -> Plan`, open-loop planning: a
            whole plan without observations.
    """

    init: Callable[[Array], GuideState]
    observe: Callable[[GuideState, Trajectories], tuple[GuideState, Metrics]]
    init_memory: Callable[[int], Memory]
    react: Callable[[GuideState, Memory, Array], Reaction]
    think: Callable[..., Plan]


def guide(
    *,
    layers: Sequence[Kernel],
    abstraction: Abstraction,
    scoring: Scoring = monte_carlo(),
    horizon: int | None = None,
    tagging: Tagging | None = None,
    memory: int | None = None,
) -> Guide:
    """Build a guide.

    Args:
        layers: the kernels, the lowest (whose values are actions or next states) first. Adjacent layers that are the
            same object are stacked, and learn in one vmapped fit. The top layer may pursue a value, `Box(1)`, in place
            of a state; trajectories must then have values.
        abstraction: which states become sub-goals.
        scoring: scores of training examples, of `thinking.guide.scoring`.
        horizon: maximum distance of goals in training, in steps; None for whole trajectories.
        tagging: how memory items are tagged; the kernels' input space must be the tagged one. With tags, a revisited
            state is trained only on values that differ from earlier ones (see `mask_repeats`).
        memory: capacity of the memory in items; a context's length by default, without tags.

    Raises:
        ValueError: if there is no layer, layers do not fit together, or a setting is out of range.
    """
    first = _check(layers, tagging, memory)
    stacked = stack_layers(layers)
    observed_space = untagged_space(first.spaces.input, tagging)
    capacity = first.context_length if memory is None else memory

    def init(key: Array) -> GuideState:
        layers_key, abstraction_key = jax.random.split(key)
        return GuideState(stacked.init(layers_key), abstraction.init(abstraction_key))

    def init_guide_memory(rows: int) -> Memory:
        return init_memory(observed_space, rows, capacity)

    infer_layer = _make_infer_layer(stacked, tagging, observed_space, capacity)
    target_space = stacked.kernels[-1].spaces.target

    def think_plans(
        state: GuideState, start: Array, goal: Array, *, max_hops: int, apply: ApplyFn | None = None
    ) -> Plan:
        _check_batch("start", start, observed_space)
        _check_batch("goal", goal, target_space)
        return think(infer_layer, state, len(layers), init_guide_memory, start, goal, max_hops=max_hops, apply=apply)

    return Guide(
        init,
        _make_observe(stacked, abstraction, scoring, horizon, tagging, observed_space),
        init_guide_memory,
        lambda state, memory, goal: react(infer_layer, state, len(layers), memory, goal),
        think_plans,
    )


def _make_observe(
    stacked: LayerStack,
    abstraction: Abstraction,
    scoring: Scoring,
    horizon: int | None,
    tagging: Tagging | None,
    observed_space: Space,
) -> Callable[[GuideState, Trajectories], tuple[GuideState, Metrics]]:
    """How the layers learn from trajectories."""
    num_layers, context_length = len(stacked.kernels), stacked.kernels[0].context_length
    target_space = stacked.kernels[-1].spaces.target

    def observe(state: GuideState, trajectories: Trajectories) -> tuple[GuideState, Metrics]:
        _check_trajectories(trajectories, target_space, observed_space)
        check_trajectories(scoring, trajectories)
        abstraction_state = abstraction.observe(state.abstraction, trajectories.states, trajectories.valid)
        levels = jax.vmap(
            lambda items, valid: pivot_levels(abstraction, abstraction_state, items, valid, num_layers - 1)
        )(trajectories.states, trajectories.valid)
        items = trajectories.states
        if tagging is not None:
            tags = jax.vmap(tagging.tag)(items, trajectories.valid)
            items = attach_tags(tagging, items, tags, observed_space)

        def batch(layer: int) -> Transition:
            infer = functools.partial(stacked.infer, state.layers, layer)

            def make_trajectory_examples(trajectory: Trajectories, items: Array, levels: Array) -> Transition:
                pairs = select_pairs(trajectory, layer, num_layers, horizon)
                examples = make_examples(trajectory, items, levels, layer, context_length, pairs)
                if not scoring.uses_bootstrap:
                    return examples._replace(score=score_trajectory(scoring, trajectory, pairs))
                next_pairs = Pairs(
                    jnp.minimum(pairs.t + 1, trajectory.states.shape[0] - 1), pairs.j, pairs.is_value_target
                )
                next_scores = infer(*make_queries(trajectory, items, levels, layer, context_length, next_pairs)).score
                return examples._replace(score=score_by_bootstrapping(scoring, trajectory, pairs, next_scores))

            examples = flatten_examples(jax.vmap(make_trajectory_examples)(trajectories, items, levels))
            return examples if tagging is None else mask_repeats(infer, examples, tagging, observed_space)

        fitted, metrics = stacked.fit(state.layers, [batch(layer) for layer in range(num_layers)])
        return GuideState(fitted, abstraction_state), metrics

    return observe


def _check_batch(name: str, items: Any, space: Space) -> None:
    """Refuse what is no array [B, ...] of the space's elements."""
    shape = getattr(items, "shape", None)
    if not shape or shape[1:] != space.shape:
        axes = ", ".join(("B", *map(str, space.shape)))
        given = type(items).__name__ if shape is None else f"an array {list(shape)}"
        raise ValueError(f"{name}: give a batch, an array [{axes}]; this is {given}")


def _check_trajectories(trajectories: Trajectories, target_space: Space, observed_space: Space) -> None:
    if not isinstance(trajectories, Trajectories):
        raise ValueError(f"trajectories: give Trajectories(states, length); this is {type(trajectories).__name__}")
    if trajectories.values is None and target_space != observed_space:
        raise ValueError("the top layer pursues values: give Trajectories(values=...)")
    if trajectories.values is not None and target_space != Box(1):
        raise ValueError("the top layer pursues states, but the trajectories have values; leave them out")


def _make_infer_layer(stacked: LayerStack, tagging: Tagging | None, observed_space: Space, capacity: int) -> InferFn:
    """How a layer infers its value from the memory."""
    length = stacked.kernels[0].context_length

    def infer_layer(state: GuideState, layer: int, memory: Memory, target: Array) -> tuple[Array, Array]:
        context = tag_context(tagging, recall(memory, capacity), observed_space)
        context = Context(context.items[:, -length:], jnp.minimum(context.length, length))
        hypothesis = stacked.infer(state.layers, layer, context, target)
        is_known = hypothesis.score > -jnp.inf
        spaces = stacked.kernels[layer].spaces
        if spaces.value != spaces.target:
            return hypothesis.value, is_known
        # Without an entry a layer passes its target on, and also if its sub-goal is the present state.
        if layer > 0:
            is_known &= ~is_same(hypothesis.value, recall(memory, 1).items[:, 0])
        return select_rows(is_known, hypothesis.value, target), is_known

    return infer_layer


def _check(layers: Sequence[Kernel], tagging: Tagging | None, memory: int | None) -> Kernel:
    """Returns the lowest kernel; raises ValueError if the layers do not fit together."""
    if not layers:
        raise ValueError("a guide needs at least one layer")
    first = layers[0]
    for number, kernel in enumerate(layers):
        if (kernel.spaces.input, kernel.context_length) != (first.spaces.input, first.context_length):
            raise ValueError(
                f"layer {number} reads {kernel.context_length} of {kernel.spaces.input}, but layer 0 reads "
                f"{first.context_length} of {first.spaces.input}: all layers read the same contexts"
            )
    for number, (below, above) in enumerate(itertools.pairwise(layers)):
        if above.spaces.value != below.spaces.target:
            raise ValueError(
                f"layer {number + 1} answers with {above.spaces.value}, but layer {number} pursues "
                f"{below.spaces.target}: the value of a layer is the target of the one below"
            )
    target_space, observed_space = layers[-1].spaces.target, untagged_space(first.spaces.input, tagging)
    if target_space not in (observed_space, Box(1)):
        raise ValueError(
            f"the top layer pursues {target_space}: allowed is a state, {observed_space}, or a value, Box(dims=1)"
        )
    if memory is not None and memory < first.context_length:
        raise ValueError(f"memory {memory}: it must hold a context of {first.context_length}")
    if tagging is not None and memory is None:
        raise ValueError("tags are computed from what the memory holds; give memory, the items since the goal was set")
    return first
