"""The guide over plan trees.

A plan tree is a text as a tree. Its leaves are steps (sentence vectors), grouped into sections, and these into parts. A
layer infers, one after another, the sub-goals that lead to its target (each the mean of the steps below it; in the
lowest layer the steps), and then a separator: the target is reached, and the layer above infers its next value. The top
layer's target is the goal. A layer also reads the targets of the layers above. To *react* (closed-loop) is to record
the actual step after each prediction; to *think* (open-loop) is to record the predicted one.

Axes: B rows, L layers, D dimensions of a vector.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hippocampus import Memory, append, init_memory, recall
from thinking.guide.plan_trees.codecs import Codec, concat_target_space, concat_targets
from thinking.kernels.contract import Context, Kernel, Transition
from thinking.trees import select_rows
from thinking.types import Array, Metrics

State = tuple[Any, ...]


class SubTrajectoryState(NamedTuple):
    """The current sub-trajectory of a layer.

    Attributes:
        memory: codes of the values so far, with a separator before each sub-trajectory.
        target: [B, ...] the code of the target.
        step_sum: [B, D] sum of the steps of this sub-trajectory.
        num_steps: [B] int32, number of those steps.
    """

    memory: Memory
    target: Array
    step_sum: Array
    num_steps: Array


Carry = tuple[SubTrajectoryState, ...]
"""The sub-trajectory of each layer, the lowest first."""


class NextStep(NamedTuple):
    """The next step.

    Attributes:
        step: [B, D].
        sub_goals: targets of the layers below the top, the lowest first: L - 1 of [B, D].
        num_new_sub_goals: [B] int32, how many of these are new.
        done: [B] bool, whether the goal is reached and there is no next step.
    """

    step: Array
    sub_goals: tuple[Array, ...]
    num_new_sub_goals: Array
    done: Array


class PlanGuide(NamedTuple):
    """The pure functions of a guide over plan trees.

    Attributes:
        init: `init(key) -> state`, a kernel state for each layer; consumes the key.
        fit: `fit(state, batches) -> (state, metrics)`, a batch for each layer; metrics are `layer_N/NAME`.
        infer_sub_goal: `infer_sub_goal(state, layer, context, target) -> (sub_goal [B, ...], is_known [B] bool)`: the
            code of the target that a layer above the lowest sets for the one below; `target` is of `concat_targets`.
        init_carry: `init_carry(state, goal [B, D]) -> Carry`.
        propose_step: `propose_step(state, carry) -> (NextStep, Carry)`: ends sub-trajectories that are done, starts
            others, and infers the next step.
        record_step: `record_step(carry, step [B, D]) -> Carry`.
    """

    init: Callable[[Array], State]
    fit: Callable[[State, Sequence[Transition]], tuple[State, Metrics]]
    infer_sub_goal: Callable[[State, int, Context, Array], tuple[Array, Array]]
    init_carry: Callable[[State, Array], Carry]
    propose_step: Callable[[State, Carry], tuple[NextStep, Carry]]
    record_step: Callable[[Carry, Array], Carry]


def plan_guide(*, layers: Sequence[Kernel], codecs: Sequence[Codec]) -> PlanGuide:
    """Build a guide over plan trees.

    Args:
        layers: L kernels, the lowest first. Layer l reads and infers codes of level l, and its targets are codes of
            levels l + 1 and above.
        codecs: L + 1 of them: of steps, of the means that each layer above the lowest uses, and of goals.

    Raises:
        ValueError: if a kernel does not fit its codecs.
    """
    _check(layers, codecs)
    top = len(layers) - 1

    def infer(state: State, layer: int, sub_trajectories: Sequence[SubTrajectoryState]) -> Array:
        """The values of a layer, from its sub-trajectory and those of the layers above."""
        kernel = layers[layer]
        context = recall(sub_trajectories[0].memory, kernel.context_length)
        return kernel.infer(
            state[layer], context, concat_targets([sub_trajectory.target for sub_trajectory in sub_trajectories])
        ).value

    def infer_where(
        state: State, layer: int, sub_trajectories: Sequence[SubTrajectoryState], where: Array, values: Array
    ) -> Array:
        """The values [B, ...], inferred anew in the rows `where` at least.

        Few rows end a sub-trajectory at once. Where at most half do, only half are inferred. In the other rows a value
        may be inferred anew too, and is then the same as before.
        """
        half = -(-len(where) // 2)
        chosen = jnp.argsort(~where)[:half]

        def infer_half() -> Array:
            half_of_rows = jax.tree.map(lambda leaf: leaf[chosen], sub_trajectories)
            return values.at[chosen].set(infer(state, layer, half_of_rows))

        return jax.lax.cond(jnp.sum(where) <= half, infer_half, lambda: infer(state, layer, sub_trajectories))

    def start_below(
        state: State, sub_trajectories: list[SubTrajectoryState], values: list[Array], where: Sequence[Array]
    ) -> None:
        """Start sub-trajectories below the top in the rows `where`, each from the value of the layer above."""
        for layer in range(top - 1, -1, -1):
            target = codecs[layer + 1].decode(values[layer + 1])
            sub_trajectories[layer] = _start_sub_trajectory(
                codecs[layer], codecs[layer + 1], sub_trajectories[layer], target, where[layer]
            )
            values[layer] = infer_where(state, layer, tuple(sub_trajectories[layer:]), where[layer], values[layer])

    def zero_values(layer: int, rows: int) -> Array:
        space = codecs[layer].space
        return jnp.zeros((rows, *space.shape), space.dtype)

    def init_carry(state: State, goal: Array) -> Carry:
        all_rows = jnp.ones(goal.shape[0], bool)
        sub_trajectories = [
            _init_sub_trajectory(kernel, codec_above, goal)
            for kernel, codec_above in zip(layers, codecs[1:], strict=True)
        ]
        sub_trajectories[top] = _start_sub_trajectory(
            codecs[top], codecs[top + 1], sub_trajectories[top], goal, all_rows
        )
        values = [zero_values(layer, len(goal)) for layer in range(top)]
        start_below(state, sub_trajectories, [*values, infer(state, top, sub_trajectories[top:])], [all_rows] * top)
        return tuple(sub_trajectories)

    def propose_step(state: State, carry: Carry) -> tuple[NextStep, Carry]:
        sub_trajectories = list(carry)
        values, done = [infer(state, 0, carry)], []
        for layer, codec in enumerate(codecs[:-1]):
            if layer > 0:
                sub_trajectories[layer] = _finish_sub_trajectory(
                    codec, sub_trajectories[layer], sub_trajectories[layer - 1], done[-1]
                )
                zeros = zero_values(layer, len(done[-1]))
                values.append(infer_where(state, layer, tuple(sub_trajectories[layer:]), done[-1], zeros))
            # A sub-trajectory without steps is not done, so each proposal is a step.
            is_done = codec.is_separator(values[-1]) & (sub_trajectories[layer].num_steps > 0)
            done.append(is_done & done[-1] if done else is_done)
        start_below(state, sub_trajectories, values, done)
        # A sub-goal is new until the first step toward it; those above it may be older.
        steps_toward = itertools.accumulate(sub_trajectory.num_steps for sub_trajectory in sub_trajectories[:-1])
        is_new = [(num_made == 0).astype(jnp.int32) for num_made in steps_toward]
        next_step = NextStep(
            codecs[0].decode(values[0]),
            tuple(
                codec.decode(sub_trajectory.target)
                for codec, sub_trajectory in zip(codecs[1:-1], sub_trajectories[:-1], strict=True)
            ),
            sum(is_new, jnp.zeros_like(sub_trajectories[0].num_steps)),
            done[-1],
        )
        return next_step, tuple(sub_trajectories)

    def record_step(carry: Carry, step: Array) -> Carry:
        sub_trajectory = carry[0]
        memory = append(sub_trajectory.memory, codecs[0].encode(step))
        return (
            sub_trajectory._replace(
                memory=memory, step_sum=sub_trajectory.step_sum + step, num_steps=sub_trajectory.num_steps + 1
            ),
            *carry[1:],
        )

    def infer_sub_goal(state: State, layer: int, context: Context, target: Array) -> tuple[Array, Array]:
        hypothesis, codec = layers[layer].infer(state[layer], context, target), codecs[layer]
        return codec.encode(codec.decode(hypothesis.value)), hypothesis.score > -jnp.inf

    def init(key: Array) -> State:
        keys = jax.random.split(key, len(layers))
        return tuple(kernel.init(key) for kernel, key in zip(layers, keys, strict=True))

    def fit(state: State, batches: Sequence[Transition]) -> tuple[State, Metrics]:
        fitted = [kernel.fit(*arguments) for kernel, *arguments in zip(layers, state, batches, strict=True)]
        metrics = {
            f"layer_{layer}/{name}": value
            for layer, (_, layer_metrics) in enumerate(fitted)
            for name, value in layer_metrics.items()
        }
        return tuple(state for state, _ in fitted), metrics

    return PlanGuide(init, fit, infer_sub_goal, init_carry, propose_step, record_step)


def _init_sub_trajectory(kernel: Kernel, codec_above: Codec, goal: Array) -> SubTrajectoryState:
    """The sub-trajectory of a layer with an empty memory."""
    memory = init_memory(kernel.spaces.input, goal.shape[0], kernel.context_length)
    return SubTrajectoryState(
        memory, codec_above.encode(goal), jnp.zeros_like(goal), jnp.zeros(goal.shape[0], jnp.int32)
    )


def _start_sub_trajectory(
    codec: Codec, codec_above: Codec, sub_trajectory: SubTrajectoryState, target: Array, where: Array
) -> SubTrajectoryState:
    """A new sub-trajectory toward a target [B, D] in the rows `where`."""
    separator = jnp.broadcast_to(codec.separator, sub_trajectory.memory.items[:, 0].shape)
    return SubTrajectoryState(
        append(sub_trajectory.memory, separator, where),
        select_rows(where, codec_above.encode(target), sub_trajectory.target),
        select_rows(where, jnp.zeros_like(sub_trajectory.step_sum), sub_trajectory.step_sum),
        jnp.where(where, 0, sub_trajectory.num_steps),
    )


def _finish_sub_trajectory(
    codec: Codec, sub_trajectory: SubTrajectoryState, below: SubTrajectoryState, where: Array
) -> SubTrajectoryState:
    """The sub-trajectory with the mean of the one below appended, in the rows `where` that one is done."""
    mean = below.step_sum / jnp.maximum(below.num_steps, 1)[:, None]
    return sub_trajectory._replace(
        memory=append(sub_trajectory.memory, codec.encode(mean), where),
        step_sum=sub_trajectory.step_sum + select_rows(where, below.step_sum, jnp.zeros_like(below.step_sum)),
        num_steps=sub_trajectory.num_steps + jnp.where(where, below.num_steps, 0),
    )


def _check(layers: Sequence[Kernel], codecs: Sequence[Codec]) -> None:
    if not layers or len(codecs) != len(layers) + 1:
        raise ValueError(
            f"{len(layers)} layers and {len(codecs)} codecs: give at least one layer, and one codec more than layers"
        )
    for number, kernel in enumerate(layers):
        spaces, own, above = kernel.spaces, codecs[number].space, concat_target_space(codecs[number + 1 :])
        if (spaces.input, spaces.value, spaces.target) != (own, own, above):
            raise ValueError(
                f"layer {number} reads {spaces.input}, answers {spaces.value} and pursues {spaces.target}: "
                f"its codecs have {own} for the first two, and {above}"
            )
