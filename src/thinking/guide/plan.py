"""Plans, and the loop that makes them: hop by hop for a whole batch, until every row has arrived or the hops are spent.

Axes: B rows, H hops allowed, L layers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thinking.guide.hippocampus import select
from thinking.types import Array

Carry = Any


class Plan(NamedTuple):
    """Ways from starts to goals.

    Attributes:
        states: [B, H + 1, ...] where each row is before each hop, the start first; after the last hop it stays.
        hops: [B] int32, how many hops were made.
        arrived: [B] bool, whether the row is at its goal, also if it came there with the last hop or was there at once.
        targets: what each layer pursued at each hop, the lowest layer first: L arrays [B, H, ...].
    """

    states: Array
    hops: Array
    arrived: Array
    targets: tuple[Array, ...]


HopFn = Callable[[Carry, Array, Array], tuple[Carry, Array, tuple[Array, ...]]]
"""`advance(inner, state [B, ...], alive [B]) -> (inner, next state, targets)`: one hop of every row."""


def unroll_plan(
    hop_fn: HopFn, init_carry: Carry, start: Array, is_at_goal: Callable[[Array], Array], max_hops: int
) -> Plan:
    """Advance until all have arrived, at most `max_hops` times; one compilation for plans of every length.

    Args:
        hop_fn: makes one hop; what it does to rows that are not alive does not count.
        init_carry: what `hop_fn` carries along.
        start: [B, ...].
        is_at_goal: `at_goal(state) -> [B] bool`.
        max_hops: H.

    Raises:
        ValueError: if max_hops is below 0.
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

    def going_on(carry: tuple) -> Array:
        hop, state = carry[0], carry[2]
        return (hop < max_hops) & ~jnp.all(is_at_goal(state))

    def body(carry: tuple) -> tuple:
        hop, inner, state, hops, states, targets = carry
        alive = ~is_at_goal(state)
        inner, moved, pursued = hop_fn(inner, state, alive)
        state = select(alive, moved, state)
        states = states.at[:, hop + 1].set(state)
        targets = tuple(t.at[:, hop].set(p) for t, p in zip(targets, pursued, strict=True))
        return hop + 1, inner, state, hops + alive, states, targets

    carry = (jnp.int32(0), init_carry, start, no_hops, states, targets)
    made, _, state, hops, states, targets = jax.lax.while_loop(going_on, body, carry)
    # Where the loop ended early, all have arrived and stay.
    after = jnp.arange(max_hops + 1) > made
    stays = after.reshape((1, -1) + (1,) * (start.ndim - 1))
    return Plan(jnp.where(stays, state[:, None], states), hops, is_at_goal(state), targets)
