"""The guide over outlines: what is done step by step, and the sections and parts that steps belong to.

A layer pursues a target leg by leg: its values are the sub-goals (each the average of the steps below it), or the steps
themselves, that lead to its target, and then a mark: the leg is over, and the layer above is asked anew. The top
layer's target is the goal. A layer sees what those above it pursue too. To *react* is to observe what was really done
after each step; to *think* is to observe what one would do.

Axes: B rows, L layers, D dimensions of a vector.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hippocampus import Memory, append, empty, recall, select
from thinking.guide.outlines.codecs import Codec, pursued, pursued_space
from thinking.kernels.contract import Context, Kernel, Transition
from thinking.types import Array, Metrics

State = tuple[Any, ...]


class Leg(NamedTuple):
    """What a layer is at.

    Attributes:
        memory: codes of what was lived, with a mark in front of each leg.
        target: [B, ...] the code of what it shall lead to.
        total: [B, D] sum of the steps of this leg.
        count: [B] int32, how many those are.
    """

    memory: Memory
    target: Array
    total: Array
    count: Array


Mind = tuple[Leg, ...]
"""What a guide carries from step to step: the leg of each layer, the lowest first."""


class Thought(NamedTuple):
    """The next step.

    Attributes:
        step: [B, D].
        sub_goals: what the layers below the top pursue with it, the lowest first: L - 1 of [B, D].
        opened: [B] int32, how many of these are new.
        ended: [B] bool, whether the goal is reached, and there is no next step.
    """

    step: Array
    sub_goals: tuple[Array, ...]
    opened: Array
    ended: Array


class Outliner(NamedTuple):
    """The pure functions of a guide over outlines.

    Attributes:
        init: `init(key) -> state`, a kernel's state for each layer; consumes the key.
        fit: `fit(state, batches) -> (state, metrics)`, a batch of lessons for each layer; metrics are `NAME/LAYER`.
        told: `told(state, layer, context, pursuit) -> (target [B, ...], known [B] bool)`: the target, as a code, that a
            layer above the lowest sets the one below, and whether it knows one; the pursuit is what it was set
            itself and those above were.
        begin: `begin(state, goal [B, D]) -> Mind`.
        advance: `advance(state, mind) -> (Thought, Mind)`: ends legs that are over, opens others, says the next step.
        observe: `observe(mind, step [B, D]) -> Mind`: a step was done.
    """

    init: Callable[[Array], State]
    fit: Callable[[State, Sequence[Transition]], tuple[State, Metrics]]
    told: Callable[[State, int, Context, Array], tuple[Array, Array]]
    begin: Callable[[State, Array], Mind]
    advance: Callable[[State, Mind], tuple[Thought, Mind]]
    observe: Callable[[Mind, Array], Mind]


def outliner(*, layers: Sequence[Kernel], codecs: Sequence[Codec]) -> Outliner:
    """Build a guide over outlines.

    Args:
        layers: L kernels, the lowest first. Layer l reads and answers codes of level l, and pursues those of
            l + 1 and above.
        codecs: L + 1 of them: of steps, of the averages that each layer above the lowest deals in, and of goals.

    Raises:
        ValueError: if a kernel does not fit its codecs.
    """
    _check(layers, codecs)
    top = len(layers) - 1

    def ask(state: State, layer: int, legs: Sequence[Leg]) -> Array:
        """What a layer says; its leg, and those of the layers above."""
        kernel = layers[layer]
        context = recall(legs[0].memory, kernel.context_length)
        return kernel.infer(state[layer], context, pursued([leg.target for leg in legs])).value

    def ask_where(state: State, layer: int, legs: Sequence[Leg], where: Array, values: Array) -> Array:
        """The values [B, ...], with those anew that a layer says in the rows `where`, and perhaps in others too.

        Most rows are within a leg, so half of them mostly hold all in which a layer must be asked.
        """
        half = -(-len(where) // 2)
        chosen = jnp.argsort(~where)[:half]

        def in_half() -> Array:
            return values.at[chosen].set(ask(state, layer, jax.tree.map(lambda leaf: leaf[chosen], legs)))

        return jax.lax.cond(jnp.sum(where) <= half, in_half, lambda: ask(state, layer, legs))

    def descend(state: State, legs: list[Leg], values: list[Array], where: Sequence[Array]) -> None:
        """Open legs below the top in the rows `where`, each from the value of the layer above."""
        for layer in range(top - 1, -1, -1):
            target = codecs[layer + 1].decode(values[layer + 1])
            legs[layer] = _opened(codecs[layer], codecs[layer + 1], legs[layer], target, where[layer])
            values[layer] = ask_where(state, layer, tuple(legs[layer:]), where[layer], values[layer])

    def unasked(layer: int, rows: int) -> Array:
        space = codecs[layer].space
        return jnp.zeros((rows, *space.shape), space.dtype)

    def begin(state: State, goal: Array) -> Mind:
        everywhere = jnp.ones(goal.shape[0], bool)
        legs = [_idle(kernel, above, goal) for kernel, above in zip(layers, codecs[1:], strict=True)]
        legs[top] = _opened(codecs[top], codecs[top + 1], legs[top], goal, everywhere)
        values = [unasked(layer, len(goal)) for layer in range(top)]
        descend(state, legs, [*values, ask(state, top, legs[top:])], [everywhere] * top)
        return tuple(legs)

    def advance(state: State, mind: Mind) -> tuple[Thought, Mind]:
        legs = list(mind)
        values, over = [ask(state, 0, mind)], []
        for layer, codec in enumerate(codecs[:-1]):
            if layer > 0:
                legs[layer] = _risen(codec, legs[layer], legs[layer - 1], over[-1])
                nothing = unasked(layer, len(over[-1]))
                values.append(ask_where(state, layer, tuple(legs[layer:]), over[-1], nothing))
            # A leg that has just begun is not over, so every thought is a step.
            ends = codec.is_mark(values[-1]) & (legs[layer].count > 0)
            over.append(ends & over[-1] if over else ends)
        descend(state, legs, values, over)
        # A sub-goal is new until a step was made toward it; those above it may be older.
        steps = itertools.accumulate(leg.count for leg in legs[:-1])
        fresh = [(made == 0).astype(jnp.int32) for made in steps]
        thought = Thought(
            codecs[0].decode(values[0]),
            tuple(codec.decode(leg.target) for codec, leg in zip(codecs[1:-1], legs[:-1], strict=True)),
            sum(fresh, jnp.zeros_like(legs[0].count)),
            over[-1],
        )
        return thought, tuple(legs)

    def observe(mind: Mind, step: Array) -> Mind:
        leg = mind[0]
        memory = append(leg.memory, codecs[0].encode(step))
        return (leg._replace(memory=memory, total=leg.total + step, count=leg.count + 1), *mind[1:])

    def told(state: State, layer: int, context: Context, pursuit: Array) -> tuple[Array, Array]:
        answer, codec = layers[layer].infer(state[layer], context, pursuit), codecs[layer]
        return codec.encode(codec.decode(answer.value)), answer.score > -jnp.inf

    def init(key: Array) -> State:
        keys = jax.random.split(key, len(layers))
        return tuple(kernel.init(key) for kernel, key in zip(layers, keys, strict=True))

    def fit(state: State, batches: Sequence[Transition]) -> tuple[State, Metrics]:
        fitted = [kernel.fit(*each) for kernel, *each in zip(layers, state, batches, strict=True)]
        metrics = {f"{name}/{layer}": value for layer, (_, told) in enumerate(fitted) for name, value in told.items()}
        return tuple(state for state, _ in fitted), metrics

    return Outliner(init, fit, told, begin, advance, observe)


def _idle(kernel: Kernel, above: Codec, goal: Array) -> Leg:
    """The leg of a layer that has lived nothing."""
    memory = empty(kernel.spaces.input, goal.shape[0], kernel.context_length)
    return Leg(memory, above.encode(goal), jnp.zeros_like(goal), jnp.zeros(goal.shape[0], jnp.int32))


def _opened(codec: Codec, above: Codec, leg: Leg, target: Array, where: Array) -> Leg:
    """The leg, begun anew toward a target [B, D] in the rows `where`."""
    mark = jnp.broadcast_to(codec.mark, leg.memory.items[:, 0].shape)
    return Leg(
        append(leg.memory, mark, where),
        select(where, above.encode(target), leg.target),
        select(where, jnp.zeros_like(leg.total), leg.total),
        jnp.where(where, 0, leg.count),
    )


def _risen(codec: Codec, leg: Leg, below: Leg, where: Array) -> Leg:
    """The leg after the one below it ended in the rows `where`: its average was lived here."""
    average = below.total / jnp.maximum(below.count, 1)[:, None]
    return leg._replace(
        memory=append(leg.memory, codec.encode(average), where),
        total=leg.total + select(where, below.total, jnp.zeros_like(below.total)),
        count=leg.count + jnp.where(where, below.count, 0),
    )


def _check(layers: Sequence[Kernel], codecs: Sequence[Codec]) -> None:
    if not layers or len(codecs) != len(layers) + 1:
        raise ValueError(f"{len(layers)} layers and {len(codecs)} codecs: give at least one layer, and a codec more")
    for number, kernel in enumerate(layers):
        spaces, own, above = kernel.spaces, codecs[number].space, pursued_space(codecs[number + 1 :])
        if (spaces.input, spaces.value, spaces.target) != (own, own, above):
            raise ValueError(
                f"layer {number} reads {spaces.input}, answers {spaces.value} and pursues {spaces.target}: "
                f"its codecs have {own} for the first two, and {above}"
            )
