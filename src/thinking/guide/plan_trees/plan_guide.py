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

from thinking.guide.hippocampus import Memory, append, init_memory, recall, select
from thinking.guide.plan_trees.codecs import Codec, concat_target_space, concat_targets
from thinking.kernels.contract import Context, Kernel, Transition
from thinking.types import Array, Metrics

State = tuple[Any, ...]


class SubTrajectoryState(NamedTuple):
    """What a layer is at.

    Attributes:
        memory: codes of what was lived, with a mark in front of each leg.
        target: [B, ...] the code of what it shall lead to.
        step_sum: [B, D] sum of the steps of this leg.
        num_steps: [B] int32, how many those are.
    """

    memory: Memory
    target: Array
    step_sum: Array
    num_steps: Array


Carry = tuple[SubTrajectoryState, ...]
"""What a guide carries from step to step: the leg of each layer, the lowest first."""


class NextStep(NamedTuple):
    """The next step.

    Attributes:
        step: [B, D].
        sub_goals: what the layers below the top pursue with it, the lowest first: L - 1 of [B, D].
        num_new_sub_goals: [B] int32, how many of these are new.
        done: [B] bool, whether the goal is reached, and there is no next step.
    """

    step: Array
    sub_goals: tuple[Array, ...]
    num_new_sub_goals: Array
    done: Array


class PlanGuide(NamedTuple):
    """The pure functions of a guide over outlines.

    Attributes:
        init: `init(key) -> state`, a kernel's state for each layer; consumes the key.
        fit: `fit(state, batches) -> (state, metrics)`, a batch of lessons for each layer; metrics are `NAME/LAYER`.
        infer_subgoal: `told(state, layer, context, pursuit) -> (target [B, ...], known [B] bool)`: the target, as a code, that a
            layer above the lowest sets the one below, and whether it knows one; the pursuit is what it was set
            itself and those above were.
        init_carry: `begin(state, goal [B, D]) -> Mind`.
        propose_step: `advance(state, mind) -> (Thought, Mind)`: ends legs that are over, opens others, says the next step.
        observe: `observe(mind, step [B, D]) -> Mind`: a step was done.
    """

    init: Callable[[Array], State]
    fit: Callable[[State, Sequence[Transition]], tuple[State, Metrics]]
    infer_subgoal: Callable[[State, int, Context, Array], tuple[Array, Array]]
    init_carry: Callable[[State, Array], Carry]
    propose_step: Callable[[State, Carry], tuple[NextStep, Carry]]
    observe: Callable[[Carry, Array], Carry]


def plan_guide(*, layers: Sequence[Kernel], codecs: Sequence[Codec]) -> PlanGuide:
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

    def ask(state: State, layer: int, sub_trajectories: Sequence[SubTrajectoryState]) -> Array:
        """What a layer says; its leg, and those of the layers above."""
        kernel = layers[layer]
        context = recall(sub_trajectories[0].memory, kernel.context_length)
        return kernel.infer(state[layer], context, concat_targets([leg.target for leg in sub_trajectories])).value

    def ask_where(
        state: State, layer: int, sub_trajectories: Sequence[SubTrajectoryState], where: Array, values: Array
    ) -> Array:
        """The values [B, ...], with those anew that a layer says in the rows `where`, and perhaps in others too.

        Most rows are within a leg, so half of them mostly hold all in which a layer must be asked.
        """
        half = -(-len(where) // 2)
        chosen = jnp.argsort(~where)[:half]

        def in_half() -> Array:
            return values.at[chosen].set(ask(state, layer, jax.tree.map(lambda leaf: leaf[chosen], sub_trajectories)))

        return jax.lax.cond(jnp.sum(where) <= half, in_half, lambda: ask(state, layer, sub_trajectories))

    def descend(
        state: State, sub_trajectories: list[SubTrajectoryState], values: list[Array], where: Sequence[Array]
    ) -> None:
        """Open legs below the top in the rows `where`, each from the value of the layer above."""
        for layer in range(top - 1, -1, -1):
            target = codecs[layer + 1].decode(values[layer + 1])
            sub_trajectories[layer] = _start_sub_trajectory(
                codecs[layer], codecs[layer + 1], sub_trajectories[layer], target, where[layer]
            )
            values[layer] = ask_where(state, layer, tuple(sub_trajectories[layer:]), where[layer], values[layer])

    def unasked(layer: int, rows: int) -> Array:
        space = codecs[layer].space
        return jnp.zeros((rows, *space.shape), space.dtype)

    def begin(state: State, goal: Array) -> Carry:
        everywhere = jnp.ones(goal.shape[0], bool)
        legs = [_init_sub_trajectory(kernel, above, goal) for kernel, above in zip(layers, codecs[1:], strict=True)]
        legs[top] = _start_sub_trajectory(codecs[top], codecs[top + 1], legs[top], goal, everywhere)
        values = [unasked(layer, len(goal)) for layer in range(top)]
        descend(state, legs, [*values, ask(state, top, legs[top:])], [everywhere] * top)
        return tuple(legs)

    def advance(state: State, carry: Carry) -> tuple[NextStep, Carry]:
        legs = list(carry)
        values, over = [ask(state, 0, carry)], []
        for layer, codec in enumerate(codecs[:-1]):
            if layer > 0:
                legs[layer] = _finish_sub_trajectory(codec, legs[layer], legs[layer - 1], over[-1])
                nothing = unasked(layer, len(over[-1]))
                values.append(ask_where(state, layer, tuple(legs[layer:]), over[-1], nothing))
            # A leg that has just begun is not over, so every thought is a step.
            ends = codec.is_mark(values[-1]) & (legs[layer].num_steps > 0)
            over.append(ends & over[-1] if over else ends)
        descend(state, legs, values, over)
        # A sub-goal is new until a step was made toward it; those above it may be older.
        steps = itertools.accumulate(leg.num_steps for leg in legs[:-1])
        fresh = [(made == 0).astype(jnp.int32) for made in steps]
        thought = NextStep(
            codecs[0].decode(values[0]),
            tuple(codec.decode(leg.target) for codec, leg in zip(codecs[1:-1], legs[:-1], strict=True)),
            sum(fresh, jnp.zeros_like(legs[0].num_steps)),
            over[-1],
        )
        return thought, tuple(legs)

    def observe(carry: Carry, step: Array) -> Carry:
        leg = carry[0]
        memory = append(leg.memory, codecs[0].encode(step))
        return (leg._replace(memory=memory, step_sum=leg.step_sum + step, num_steps=leg.num_steps + 1), *carry[1:])

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

    return PlanGuide(init, fit, told, begin, advance, observe)


def _init_sub_trajectory(kernel: Kernel, above: Codec, goal: Array) -> SubTrajectoryState:
    """The leg of a layer that has lived nothing."""
    memory = init_memory(kernel.spaces.input, goal.shape[0], kernel.context_length)
    return SubTrajectoryState(memory, above.encode(goal), jnp.zeros_like(goal), jnp.zeros(goal.shape[0], jnp.int32))


def _start_sub_trajectory(
    codec: Codec, above: Codec, sub_trajectory: SubTrajectoryState, target: Array, where: Array
) -> SubTrajectoryState:
    """The leg, begun anew toward a target [B, D] in the rows `where`."""
    mark = jnp.broadcast_to(codec.mark, sub_trajectory.memory.items[:, 0].shape)
    return SubTrajectoryState(
        append(sub_trajectory.memory, mark, where),
        select(where, above.encode(target), sub_trajectory.target),
        select(where, jnp.zeros_like(sub_trajectory.step_sum), sub_trajectory.step_sum),
        jnp.where(where, 0, sub_trajectory.num_steps),
    )


def _finish_sub_trajectory(
    codec: Codec, sub_trajectory: SubTrajectoryState, below: SubTrajectoryState, where: Array
) -> SubTrajectoryState:
    """The leg after the one below it ended in the rows `where`: its average was lived here."""
    average = below.step_sum / jnp.maximum(below.num_steps, 1)[:, None]
    return sub_trajectory._replace(
        memory=append(sub_trajectory.memory, codec.encode(average), where),
        step_sum=sub_trajectory.step_sum + select(where, below.step_sum, jnp.zeros_like(below.step_sum)),
        num_steps=sub_trajectory.num_steps + jnp.where(where, below.num_steps, 0),
    )


def _check(layers: Sequence[Kernel], codecs: Sequence[Codec]) -> None:
    if not layers or len(codecs) != len(layers) + 1:
        raise ValueError(f"{len(layers)} layers and {len(codecs)} codecs: give at least one layer, and a codec more")
    for number, kernel in enumerate(layers):
        spaces, own, above = kernel.spaces, codecs[number].space, concat_target_space(codecs[number + 1 :])
        if (spaces.input, spaces.value, spaces.target) != (own, own, above):
            raise ValueError(
                f"layer {number} reads {spaces.input}, answers {spaces.value} and pursues {spaces.target}: "
                f"its codecs have {own} for the first two, and {above}"
            )
