"""Thinking and reacting over outlines: a guide goes on step by step, from what it did or from what was really done.

Axes: B rows, T steps at most, L layers, D dimensions of a vector.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hippocampus import select
from thinking.guide.plan_trees.plan_guide import PlanGuide, State
from thinking.types import Array


class UnrolledPlan(NamedTuple):
    """What a guide thought before each step.

    Attributes:
        steps: [B, T, D] the next step as it would have it.
        sub_goals: what it pursued with it, the lowest layer first: L - 1 of [B, T, D].
        num_new_sub_goals: [B, T] int32, how many of these were new.
        done: [B, T] bool, whether it held the goal for reached instead.
        length: [B] int32, how many steps were made before it first said so, T if never. Nothing behind them counts.
    """

    steps: Array
    sub_goals: tuple[Array, ...]
    num_new_sub_goals: Array
    done: Array
    length: Array


def think(
    plan_guide: PlanGuide, state: State, goal: Array, prefix: Array, prefix_length: Array, max_steps: int
) -> UnrolledPlan:
    """Plans for goals, after what is done already; until all goals are reached.

    Args:
        plan_guide: the guide.
        state: of the guide.
        goal: [B, D].
        prefix: [B, S, D] steps that were made already, in front.
        prefix_length: [B] int32, how many of these count, at most S.
        max_steps: T, at least S.

    Raises:
        ValueError: if more is done than there may be steps.
    """
    if max_steps < prefix.shape[1]:
        raise ValueError(f"max_steps {max_steps}: {prefix.shape[1]} steps are done already; give at least so many")
    return _unroll(plan_guide, state, goal, prefix, prefix_length, max_steps, ignore_done=False)


def react(plan_guide: PlanGuide, state: State, goal: Array, observed: Array) -> UnrolledPlan:
    """What the guide would do next, before each step of what is observed, [B, T, D]."""
    most = observed.shape[1]
    return _unroll(plan_guide, state, goal, observed, jnp.full(goal.shape[0], most), most, ignore_done=True)


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
    mind = plan_guide.init_carry(state, goal)
    shapes = jax.eval_shape(plan_guide.propose_step, state, mind)[0]
    blank = jax.tree.map(lambda shape: jnp.zeros((rows, max_steps, *shape.shape[1:]), shape.dtype), shapes)

    def going_on(carry: tuple) -> Array:
        at, length = carry[0], carry[3]
        # Who says that the goal is reached says so with the step that it makes after its last one.
        return (at < max_steps) & (ignore_done | jnp.any(length >= at))

    def body(carry: tuple) -> tuple:
        at, mind, thoughts, length = carry
        thought, mind = plan_guide.propose_step(state, mind)
        given = at < prefix_length
        length = jnp.where((length >= at) & (given | ~thought.done), at + 1, length)
        mind = plan_guide.observe(mind, select(given, prefix[:, at], thought.step))
        thoughts = jax.tree.map(lambda all, new: all.at[:, at].set(new), thoughts, thought)
        return at + 1, mind, thoughts, length

    carry = (jnp.int32(0), mind, blank, jnp.zeros(rows, jnp.int32))
    _, _, thoughts, length = jax.lax.while_loop(going_on, body, carry)
    return UnrolledPlan(*thoughts, length)
