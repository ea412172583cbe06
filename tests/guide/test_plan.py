"""The loop that unrolls plans, against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.plan import unroll_plan

NODES, HOPS = 5, 6


def make_hop_fn(moves):
    """Hops along a table of moves. The carry counts the calls; it is also the target of the one layer."""

    def hop_fn(num_calls, state, alive):
        next_state = moves[state] if state.ndim == 1 else moves[state[:, 0]][:, None] * np.array([[1, -1]], np.int32)
        return num_calls + 1, next_state, (jnp.full(state.shape[0], num_calls + 1),)

    return hop_fn


@jax.jit
def unroll_both(moves, start, goal):
    index_plan = unroll_plan(make_hop_fn(moves), jnp.int32(0), start, lambda state: state == goal, HOPS)
    vector_start = jnp.stack([start, -start], 1)
    return index_plan, unroll_plan(
        make_hop_fn(moves), jnp.int32(0), vector_start, lambda state: state[:, 0] == goal, HOPS
    )


nodes = st.integers(0, NODES - 1)


@given(
    moves=st.lists(nodes, min_size=NODES, max_size=NODES),
    start=st.lists(nodes, min_size=3, max_size=3),
    goal=st.lists(nodes, min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_each_row_moves_until_its_goal_and_then_stays(moves, start, goal):
    plan, vector_plan = jax.device_get(unroll_both(*(np.array(x, np.int32) for x in (moves, start, goal))))
    max_row_hops = 0
    for row in range(3):
        states = [start[row]]
        while states[-1] != goal[row] and len(states) <= HOPS:
            states.append(moves[states[-1]])
        hops = len(states) - 1
        max_row_hops = max(max_row_hops, hops)
        assert plan.hops[row] == hops
        assert plan.arrived[row] == (states[-1] == goal[row])
        assert plan.states[row].tolist() == states + [states[-1]] * (HOPS - hops)
    # The loop ends when the last row has arrived.
    assert plan.targets[0].tolist() == [[hop + 1 if hop < max_row_hops else 0 for hop in range(HOPS)]] * 3
    np.testing.assert_array_equal(vector_plan.states, np.stack([plan.states, -plan.states], -1))
    np.testing.assert_array_equal(vector_plan.hops, plan.hops)


def test_with_max_hops_0_only_rows_at_the_goal_arrive():
    start = np.array([0, 1], np.int32)
    plan = unroll_plan(make_hop_fn(jnp.arange(NODES)), jnp.int32(0), start, lambda state: state == 1, 0)
    assert plan.arrived.tolist() == [False, True]
    assert plan.hops.tolist() == [0, 0]
    assert plan.states.tolist() == [[0], [1]]


def test_negative_max_hops_are_rejected():
    with pytest.raises(ValueError, match="max_hops -1"):
        unroll_plan(make_hop_fn(jnp.arange(NODES)), jnp.int32(0), np.zeros(1, np.int32), lambda state: state == 1, -1)
