"""Plans, and the loop that makes them: hop by hop for a batch, until all rows are at their goals or out of hops.

Axes: B rows, H maximum hops, L layers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.trees import select_rows
from thinking.types import Array

Carry = Any


class Plan(NamedTuple):
    """Plans from starts to goals.

    Attributes:
        states: [B, H + 1, ...] the state before each hop, the start first; constant after the last hop.
        hops: [B] int32, number of hops.
        arrived: [B] bool, whether the final state is at the goal.
        targets: each layer's target at each hop, the lowest layer first: L arrays [B, H, ...].
    """

    states: Array
    hops: Array
    arrived: Array
    targets: tuple[Array, ...]


HopFn = Callable[[Carry, Array, Array], tuple[Carry, Array, tuple[Array, ...]]]
"""`hop_fn(carry, state [B, ...], alive [B]) -> (carry, next state, targets)`: one hop of every row."""


def unroll_plan(
    hop_fn: HopFn, init_carry: Carry, start: Array, is_at_goal: Callable[[Array], Array], max_hops: int
) -> Plan:
    """Hop until all rows have arrived, at most `max_hops` times; one compilation for plans of all lengths.

    Args:
        hop_fn: makes one hop; its results for rows that are not alive are ignored.
        init_carry: of `hop_fn`.
        start: [B, ...].
        is_at_goal: `is_at_goal(state) -> [B] bool`.
        max_hops: H.

    Raises:
        ValueError: if `max_hops` is below 0.
    """
    if max_hops < 0:
        raise ValueError(f"max_hops {max_hops}: a plan has 0 hops or more")
    rows = start.shape[0]
    no_hops = jnp.zeros(rows, jnp.int32)
    _, _, shapes = jax.eval_shape(hop_fn, init_carry, start, jnp.ones(rows, bool))
    states = jnp.repeat(start[:, None], max_hops + 1, axis=1)
    targets = tuple(jnp.zeros((rows, max_hops, *s.shape[1:]), s.dtype) for s in shapes)

    if max_hops == 0:
        return Plan(states, no_hops, is_at_goal(start), targets)

    def is_unfinished(carry: tuple) -> Array:
        hop, state = carry[0], carry[2]
        return (hop < max_hops) & ~jnp.all(is_at_goal(state))

    def body(carry: tuple) -> tuple:
        hop, hop_carry, state, hops, states, targets = carry
        alive = ~is_at_goal(state)
        hop_carry, next_state, new_targets = hop_fn(hop_carry, state, alive)
        state = select_rows(alive, next_state, state)
        states = states.at[:, hop + 1].set(state)
        targets = tuple(t.at[:, hop].set(p) for t, p in zip(targets, new_targets, strict=True))
        return hop + 1, hop_carry, state, hops + alive, states, targets

    carry = (jnp.int32(0), init_carry, start, no_hops, states, targets)
    num_hops, _, state, hops, states, targets = jax.lax.while_loop(is_unfinished, body, carry)
    # After an early end all rows stay at their goals.
    after = jnp.arange(max_hops + 1) > num_hops
    is_after = after.reshape((1, -1) + (1,) * (start.ndim - 1))
    return Plan(jnp.where(is_after, state[:, None], states), hops, is_at_goal(state), targets)
