"""Think and react over plan trees: a guide continues step by step, from its own steps or from observed ones.

Axes: B rows, T maximum steps, L layers, D dimensions of a vector.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.plan_trees.plan_guide import PlanGuide, State
from thinking.trees import select_rows
from thinking.types import Array


class UnrolledPlan(NamedTuple):
    """The guide's prediction before each step.

    Attributes:
        steps: [B, T, D] the predicted next step.
        sub_goals: targets of the layers below the top, the lowest first: L - 1 of [B, T, D].
        num_new_sub_goals: [B, T] int32, how many of these were new.
        done: [B, T] bool, whether the guide predicted that the goal is reached instead.
        length: [B] int32, steps before the first `done`, T if never. Entries beyond it are meaningless.
    """

    steps: Array
    sub_goals: tuple[Array, ...]
    num_new_sub_goals: Array
    done: Array
    length: Array


def think(
    plan_guide: PlanGuide, state: State, goal: Array, prefix: Array, prefix_length: Array, max_steps: int
) -> UnrolledPlan:
    """Open-loop plans after a prefix, until all goals are reached.

    Args:
        plan_guide: the guide.
        state: of the guide.
        goal: [B, D].
        prefix: [B, S, D] steps already made.
        prefix_length: [B] int32, number of valid steps of the prefix, at most S.
        max_steps: T, at least S.

    Raises:
        ValueError: if S exceeds `max_steps`.
    """
    if max_steps < prefix.shape[1]:
        raise ValueError(f"max_steps {max_steps}: {prefix.shape[1]} steps are done already; give at least so many")
    return _unroll(plan_guide, state, goal, prefix, prefix_length, max_steps, ignore_done=False)


def react(plan_guide: PlanGuide, state: State, goal: Array, observed: Array) -> UnrolledPlan:
    """Closed-loop predictions of the guide before each observed step [B, T, D]."""
    num_steps = observed.shape[1]
    return _unroll(plan_guide, state, goal, observed, jnp.full(goal.shape[0], num_steps), num_steps, ignore_done=True)


def _unroll(
    plan_guide: PlanGuide,
    state: State,
    goal: Array,
    prefix: Array,
    prefix_length: Array,
    max_steps: int,
    ignore_done: bool,
) -> UnrolledPlan:
    rows = goal.shape[0]
    prefix = jnp.pad(prefix, ((0, 0), (0, max_steps - prefix.shape[1]), (0, 0)))
    guide_carry = plan_guide.init_carry(state, goal)
    step_shapes = jax.eval_shape(plan_guide.propose_step, state, guide_carry)[0]
    init_plan = jax.tree.map(lambda shape: jnp.zeros((rows, max_steps, *shape.shape[1:]), shape.dtype), step_shapes)

    def is_unfinished(carry: tuple) -> Array:
        step_index, length = carry[0], carry[3]
        # `done` is predicted in place of the step after the last one.
        return (step_index < max_steps) & (ignore_done | jnp.any(length >= step_index))

    def body(carry: tuple) -> tuple:
        step_index, guide_carry, plan, length = carry
        next_step, guide_carry = plan_guide.propose_step(state, guide_carry)
        in_prefix = step_index < prefix_length
        length = jnp.where((length >= step_index) & (in_prefix | ~next_step.done), step_index + 1, length)
        guide_carry = plan_guide.record_step(guide_carry, select_rows(in_prefix, prefix[:, step_index], next_step.step))
        plan = jax.tree.map(lambda all, new: all.at[:, step_index].set(new), plan, next_step)
        return step_index + 1, guide_carry, plan, length

    carry = (jnp.int32(0), guide_carry, init_plan, jnp.zeros(rows, jnp.int32))
    _, _, plan, length = jax.lax.while_loop(is_unfinished, body, carry)
    return UnrolledPlan(*plan, length)
