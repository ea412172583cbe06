"""The hippocampus: a ring buffer of observations, against Python's deque."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.hippocampus import append, init_memory, is_same, recall, reset
from thinking.kernels import Box, Discrete

ROWS, CAPACITY = 2, 3
LENGTHS = (1, 2, 3, 5)  # shorter than the capacity, equal to it, and longer


def make_item(space, number):
    """An item of the space for a number."""
    return number if isinstance(space, Discrete) else [number, -number, number / 2]


@pytest.fixture(scope="module", params=[Discrete(100), Box(3)], ids=["indices", "vectors"])
def memory_step(request):
    space = request.param

    @jax.jit
    def update_and_recall(memory, item, where, reset_mask):
        memory = append(reset(memory, reset_mask), item, where)
        contexts = [recall(memory, length) for length in LENGTHS]
        return memory, [(*context, context.valid) for context in contexts]

    return space, update_and_recall


steps = st.lists(
    st.tuples(
        st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
        st.lists(st.sampled_from([False, False, False, True]), min_size=ROWS, max_size=ROWS),
    ),
    max_size=9,
)


@given(steps=steps)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_recall_matches_a_deque_per_row(memory_step, steps):
    space, update_and_recall = memory_step
    memory = init_memory(space, ROWS, CAPACITY)
    deques = [deque(maxlen=CAPACITY) for _ in range(ROWS)]
    for number, (where, reset_mask) in enumerate(steps):
        items = [make_item(space, 10 * number + row + 1) for row in range(ROWS)]
        for row in range(ROWS):
            if reset_mask[row]:
                deques[row].clear()
            if where[row]:
                deques[row].append(items[row])
        memory, contexts = update_and_recall(
            memory, np.array(items, space.dtype), np.array(where), np.array(reset_mask)
        )
        for length, (contents, num_items, valid) in zip(LENGTHS, jax.device_get(contexts), strict=True):
            assert (contents.shape, contents.dtype) == ((ROWS, length, *space.shape), space.dtype)
            for row in range(ROWS):
                newest = list(deques[row])[-length:]
                padding = length - len(newest)
                assert num_items[row] == len(newest)
                # The newest item is last; the padding is in front.
                assert valid[row].tolist() == [False] * padding + [True] * len(newest)
                assert contents[row, padding:].tolist() == newest


def test_full_memory_overwrites_the_oldest_item():
    @jax.jit
    def append_all(items):
        memory, _ = jax.lax.scan(
            lambda memory, item: (append(memory, item[None]), None), init_memory(Discrete(9), 1, 3), items
        )
        return recall(memory, CAPACITY)

    context = append_all(np.arange(5, dtype=np.int32))
    assert context.items.tolist() == [[2, 3, 4]]
    assert context.length.tolist() == [CAPACITY]


def test_empty_memory_recalls_no_valid_items():
    lengths, valid = jax.jit(
        lambda: (recall(init_memory(Box(2), 3, 4), 2).length, recall(init_memory(Box(2), 3, 4), 2).valid)
    )()
    assert lengths.tolist() == [0, 0, 0]
    assert not valid.any()


def test_a_memory_of_one_item_holds_the_present():
    memory = init_memory(Discrete(5), 2, 1)
    for item in (3, 4):
        memory = append(memory, jnp.array([item, item - 1]), jnp.ones(2, bool))
    np.testing.assert_array_equal(memory.items, [[4], [3]])


def test_capacity_below_1_is_rejected():
    with pytest.raises(ValueError, match="at least 1"):
        init_memory(Discrete(3), 1, 0)


def test_is_same_compares_all_features():
    assert is_same(jnp.array([1, 2]), jnp.array([1, 3])).tolist() == [True, False]
    assert is_same(jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([[1.0, 2.0], [1.0, 3.0]])).tolist() == [True, False]
