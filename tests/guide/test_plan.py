"""The loop that makes plans, against the same walk in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.plan import unroll_plan

NODES, HOPS = 5, 6


def advance_by(moves):
    """Follow a table of moves; what is carried counts the calls, and is also what the one layer says it pursued."""

    def advance(calls, state, alive):
        moved = moves[state] if state.ndim == 1 else moves[state[:, 0]][:, None] * np.array([[1, -1]], np.int32)
        return calls + 1, moved, (jnp.full(state.shape[0], calls + 1),)

    return advance


@jax.jit
def follow(moves, start, goal):
    indices = unroll_plan(advance_by(moves), jnp.int32(0), start, lambda state: state == goal, HOPS)
    vectors = jnp.stack([start, -start], 1)
    return indices, unroll_plan(advance_by(moves), jnp.int32(0), vectors, lambda state: state[:, 0] == goal, HOPS)


nodes = st.integers(0, NODES - 1)


@given(
    moves=st.lists(nodes, min_size=NODES, max_size=NODES),
    start=st.lists(nodes, min_size=3, max_size=3),
    goal=st.lists(nodes, min_size=3, max_size=3),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_row_moves_until_it_has_arrived_and_then_stays(moves, start, goal):
    plan, of_vectors = jax.device_get(follow(*(np.array(x, np.int32) for x in (moves, start, goal))))
    most = 0
    for row in range(3):
        states = [start[row]]
        while states[-1] != goal[row] and len(states) <= HOPS:
            states.append(moves[states[-1]])
        hops = len(states) - 1
        most = max(most, hops)
        assert plan.hops[row] == hops
        assert plan.arrived[row] == (states[-1] == goal[row])
        assert plan.states[row].tolist() == states + [states[-1]] * (HOPS - hops)
    # The loop ends when the last row has arrived, and asks no more.
    assert plan.targets[0].tolist() == [[hop + 1 if hop < most else 0 for hop in range(HOPS)]] * 3
    np.testing.assert_array_equal(of_vectors.states, np.stack([plan.states, -plan.states], -1))
    np.testing.assert_array_equal(of_vectors.hops, plan.hops)


def test_without_hops_only_those_arrive_that_are_there():
    start = np.array([0, 1], np.int32)
    plan = unroll_plan(advance_by(jnp.arange(NODES)), jnp.int32(0), start, lambda state: state == 1, 0)
    assert plan.arrived.tolist() == [False, True]
    assert plan.hops.tolist() == [0, 0]
    assert plan.states.tolist() == [[0], [1]]


def test_fewer_than_no_hops_are_refused():
    with pytest.raises(ValueError, match="max_hops -1"):
        unroll_plan(advance_by(jnp.arange(NODES)), jnp.int32(0), np.zeros(1, np.int32), lambda state: state == 1, -1)
