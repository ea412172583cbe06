"""Thinking and reacting over outlines: a guide goes on step by step, from what it did or from what was really done.

Axes: B rows, T steps at most, L layers, D dimensions of a vector.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hippocampus import select
from thinking.guide.outlines.outliner import Outliner, State
from thinking.types import Array


class Unrolled(NamedTuple):
    """What a guide thought before each step.

    Attributes:
        steps: [B, T, D] the next step as it would have it.
        sub_goals: what it pursued with it, the lowest layer first: L - 1 of [B, T, D].
        opened: [B, T] int32, how many of these were new.
        ended: [B, T] bool, whether it held the goal for reached instead.
        length: [B] int32, how many steps were made before it first said so, T if never. Nothing behind them counts.
    """

    steps: Array
    sub_goals: tuple[Array, ...]
    opened: Array
    ended: Array
    length: Array


def think(outliner: Outliner, state: State, goal: Array, done: Array, count: Array, most: int) -> Unrolled:
    """Plans for goals, after what is done already; until all goals are reached.

    Args:
        outliner: the guide.
        state: of the guide.
        goal: [B, D].
        done: [B, S, D] steps that were made already, in front.
        count: [B] int32, how many of these count, at most S.
        most: T, at least S.

    Raises:
        ValueError: if more is done than there may be steps.
    """
    if most < done.shape[1]:
        raise ValueError(f"most {most}: {done.shape[1]} steps are done already; give at least so many")
    return _unroll(outliner, state, goal, done, count, most, always=False)


def react(outliner: Outliner, state: State, goal: Array, observed: Array) -> Unrolled:
    """What the guide would do next, before each step of what is observed, [B, T, D]."""
    most = observed.shape[1]
    return _unroll(outliner, state, goal, observed, jnp.full(goal.shape[0], most), most, always=True)


def _unroll(
    outliner: Outliner, state: State, goal: Array, done: Array, count: Array, most: int, always: bool
) -> Unrolled:
    rows = goal.shape[0]
    done = jnp.pad(done, ((0, 0), (0, most - done.shape[1]), (0, 0)))
    mind = outliner.begin(state, goal)
    shapes = jax.eval_shape(outliner.advance, state, mind)[0]
    blank = jax.tree.map(lambda shape: jnp.zeros((rows, most, *shape.shape[1:]), shape.dtype), shapes)

    def going_on(carry: tuple) -> Array:
        at, length = carry[0], carry[3]
        # Who says that the goal is reached says so with the step that it makes after its last one.
        return (at < most) & (always | jnp.any(length >= at))

    def body(carry: tuple) -> tuple:
        at, mind, thoughts, length = carry
        thought, mind = outliner.advance(state, mind)
        given = at < count
        length = jnp.where((length >= at) & (given | ~thought.ended), at + 1, length)
        mind = outliner.observe(mind, select(given, done[:, at], thought.step))
        thoughts = jax.tree.map(lambda all, new: all.at[:, at].set(new), thoughts, thought)
        return at + 1, mind, thoughts, length

    carry = (jnp.int32(0), mind, blank, jnp.zeros(rows, jnp.int32))
    _, _, thoughts, length = jax.lax.while_loop(going_on, body, carry)
    return Unrolled(*thoughts, length)
