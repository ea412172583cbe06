"""The guide: layers that learn paths from what was lived, and turn a goal into sub-goals and steps.

It is built as a kernel is: a constructor takes layers and returns pure functions over one state PyTree, so everything
jits, vmaps over seeds, scans over steps, and is saved by one call.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.abstraction import Abstraction, pivot_levels
from thinking.guide.hindsight import Pairs, Path, flatten_examples, make_examples, make_queries, select_pairs
from thinking.guide.hippocampus import Memory, init_memory, is_same, recall, select
from thinking.guide.layers import LayerStack, stack_layers
from thinking.guide.react import InferFn, Reaction, react
from thinking.guide.scoring import Scoring, check_path, monte_carlo, path_score, td_score
from thinking.guide.tagging import Tagging, attach_tags, mask_repeats, tag_context, untagged_space
from thinking.guide.think import Plan, think
from thinking.kernels.contract import Context, Kernel, Transition
from thinking.types import Array, Box, Metrics, Space, State


class GuideState(NamedTuple):
    """All that a guide knows.

    Attributes:
        layers: for each run of layers of one shape, their kernel states stacked.
        abstraction: state of the abstraction.
    """

    layers: tuple[State, ...]
    abstraction: State


class Guide(NamedTuple):
    """A guide's pure functions.

    Attributes:
        init: `init(key) -> GuideState`; consumes the key.
        observe: `observe(state, paths: Path) -> (state, metrics)`, learns from paths; metrics are `NAME/LAYER`.
        init_memory: `remember(rows) -> Memory`, an empty memory for `react`; to be reset when the goal changes.
        react: `react(state, memory, goal [B, ...]) -> Reaction`, one action from what was just observed.
        think: `think(state, start [B, ...], goal [B, ...], max_hops=..., apply=...) -> Plan`, a plan without looking.
    """

    init: Callable[[Array], GuideState]
    observe: Callable[[GuideState, Path], tuple[GuideState, Metrics]]
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
        layers: the kernels, the lowest (whose values are actions or next states) first. Neighbours that are the same
            object are of one shape: their states are stacked, and they learn in one vmapped fit. The top one may
            pursue a value, `Box(1)`, in place of a state; it then learns from paths that tell their values.
        abstraction: which states become sub-goals.
        scoring: how good lessons are, of `thinking.guide.scoring`.
        horizon: the longest distance taught, in steps; None for whole paths.
        tagging: how memories are tagged; the kernels' input space must be the tagged one. With tags, a state that was
            met before teaches second thoughts (see `mask_repeats`).
        memory: how many items the memory holds; a context's length by default, without tags.

    Raises:
        ValueError: if there is no layer, layers disagree on their inputs, or a setting is out of range.
    """
    first = _check(layers, tagging, memory)
    stacked = stack_layers(layers)
    observed_space = untagged_space(first.spaces.input, tagging)
    capacity = first.context_length if memory is None else memory

    def init(key: Array) -> GuideState:
        layers_key, abstraction_key = jax.random.split(key)
        return GuideState(stacked.init(layers_key), abstraction.init(abstraction_key))

    def remember(rows: int) -> Memory:
        return init_memory(observed_space, rows, capacity)

    ask = _make_infer_layer(stacked, tagging, observed_space, capacity)
    return Guide(
        init,
        _make_observe(stacked, abstraction, scoring, horizon, tagging, observed_space),
        remember,
        lambda state, memory, goal: react(ask, state, len(layers), memory, goal),
        lambda state, start, goal, *, max_hops, apply=None: think(
            ask, state, len(layers), remember, start, goal, max_hops=max_hops, apply=apply
        ),
    )


def _make_observe(
    stacked: LayerStack,
    abstraction: Abstraction,
    scoring: Scoring,
    horizon: int | None,
    tagging: Tagging | None,
    observed_space: Space,
) -> Callable[[GuideState, Path], tuple[GuideState, Metrics]]:
    """How the layers learn from paths."""
    count, context_length = len(stacked.kernels), stacked.kernels[0].context_length
    pursued = stacked.kernels[-1].spaces.target

    def observe(state: GuideState, paths: Path) -> tuple[GuideState, Metrics]:
        _check_paths(paths, pursued, observed_space)
        check_path(scoring, paths)
        known = abstraction.observe(state.abstraction, paths.states, paths.valid)
        levels = jax.vmap(lambda items, valid: pivot_levels(abstraction, known, items, valid, count - 1))(
            paths.states, paths.valid
        )
        items = paths.states
        if tagging is not None:
            tags = jax.vmap(tagging.tag)(items, paths.valid)
            items = attach_tags(tagging, items, tags, observed_space)

        def batch(layer: int) -> Transition:
            infer = functools.partial(stacked.infer, state.layers, layer)

            def teach(path: Path, items: Array, levels: Array) -> Transition:
                pairs = select_pairs(path, layer, count, horizon)
                rows = make_examples(path, items, levels, layer, context_length, pairs)
                if not scoring.bootstrap:
                    return rows._replace(score=path_score(scoring, path, pairs))
                after = Pairs(jnp.minimum(pairs.t + 1, path.states.shape[0] - 1), pairs.j, pairs.is_value_target)
                expected = infer(*make_queries(path, items, levels, layer, context_length, after)).score
                return rows._replace(score=td_score(scoring, path, pairs, expected))

            rows = flatten_examples(jax.vmap(teach)(paths, items, levels))
            return rows if tagging is None else mask_repeats(infer, rows, tagging, observed_space)

        fitted, metrics = stacked.fit(state.layers, [batch(layer) for layer in range(count)])
        return GuideState(fitted, known), metrics

    return observe


def _check_paths(paths: Path, target_space: Space, observed_space: Space) -> None:
    if paths.values is None and target_space != observed_space:
        raise ValueError("the top layer pursues values: give Path(values=...)")
    if paths.values is not None and target_space != Box(1):
        raise ValueError("the top layer pursues states, but the paths tell values: leave them")


def _make_infer_layer(stacked: LayerStack, tagging: Tagging | None, observed_space: Space, capacity: int) -> InferFn:
    """How a layer is asked, given what was lived."""
    length = stacked.kernels[0].context_length

    def ask(state: GuideState, layer: int, memory: Memory, target: Array) -> tuple[Array, Array]:
        context = tag_context(tagging, recall(memory, capacity), observed_space)
        context = Context(context.items[:, -length:], jnp.minimum(context.length, length))
        answer = stacked.infer(state.layers, layer, context, target)
        known = answer.score > -jnp.inf
        spaces = stacked.kernels[layer].spaces
        if spaces.value != spaces.target:
            return answer.value, known
        # A layer that knows nothing passes its target on; so does one whose sub-goal is where we are.
        if layer > 0:
            known &= ~is_same(answer.value, recall(memory, 1).items[:, 0])
        return select(known, answer.value, target), known

    return ask


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
    pursued, observed = layers[-1].spaces.target, untagged_space(first.spaces.input, tagging)
    if pursued not in (observed, Box(1)):
        raise ValueError(f"the top layer pursues {pursued}: allowed is a state, {observed}, or a value, Box(dims=1)")
    if memory is not None and memory < first.context_length:
        raise ValueError(f"memory {memory}: it must hold a context of {first.context_length}")
    if tagging is not None and memory is None:
        raise ValueError("tags are computed from what the memory holds; give memory, the items since the goal was set")
    return first
