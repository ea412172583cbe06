"""The hippocampus: a ring buffer of observations, against Python's deque."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinking.guide.hippocampus import append, init_memory, is_same, recall, reset, select
from thinking.kernels import Box, Discrete

ROWS, CAPACITY = 2, 3
LENGTHS = (1, 2, 3, 5)  # shorter than the ring, all of it, and longer


def item_of(space, number):
    """A thing of the space that stands for a number."""
    return number if isinstance(space, Discrete) else [number, -number, number / 2]


@pytest.fixture(scope="module", params=[Discrete(100), Box(3)], ids=["indices", "vectors"])
def ring(request):
    space = request.param

    @jax.jit
    def live(memory, item, where, forget):
        memory = append(reset(memory, forget), item, where)
        recalled = [recall(memory, length) for length in LENGTHS]
        return memory, [(*context, context.valid) for context in recalled]

    return space, live


moments = st.lists(
    st.tuples(
        st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
        st.lists(st.sampled_from([False, False, False, True]), min_size=ROWS, max_size=ROWS),
    ),
    max_size=9,
)


@given(moments=moments)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_each_row_recalls_what_a_deque_holds(ring, moments):
    space, live = ring
    memory = init_memory(space, ROWS, CAPACITY)
    appended = [deque(maxlen=CAPACITY) for _ in range(ROWS)]
    for number, (where, forget) in enumerate(moments):
        items = [item_of(space, 10 * number + row + 1) for row in range(ROWS)]
        for row in range(ROWS):
            if forget[row]:
                appended[row].clear()
            if where[row]:
                appended[row].append(items[row])
        memory, recalled = live(memory, np.array(items, space.dtype), np.array(where), np.array(forget))
        for length, (contents, num_items, valid) in zip(LENGTHS, jax.device_get(recalled), strict=True):
            assert (contents.shape, contents.dtype) == ((ROWS, length, *space.shape), space.dtype)
            for row in range(ROWS):
                newest = list(appended[row])[-length:]
                padding = length - len(newest)
                assert num_items[row] == len(newest)
                # The newest always stands last, and the padding at the front.
                assert valid[row].tolist() == [False] * padding + [True] * len(newest)
                assert contents[row, padding:].tolist() == newest


def test_a_full_ring_lets_the_oldest_go():
    @jax.jit
    def live(items):
        memory, _ = jax.lax.scan(
            lambda memory, item: (append(memory, item[None]), None), init_memory(Discrete(9), 1, 3), items
        )
        return recall(memory, CAPACITY)

    context = live(np.arange(5, dtype=np.int32))
    assert context.items.tolist() == [[2, 3, 4]]
    assert context.length.tolist() == [CAPACITY]


def test_an_empty_memory_is_a_context_of_nothing_valid():
    lengths, valid = jax.jit(
        lambda: (recall(init_memory(Box(2), 3, 4), 2).length, recall(init_memory(Box(2), 3, 4), 2).valid)
    )()
    assert lengths.tolist() == [0, 0, 0]
    assert not valid.any()


def test_a_memory_without_room_for_the_present_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        init_memory(Discrete(3), 1, 0)


def test_things_are_the_same_only_if_all_their_numbers_are():
    assert is_same(jnp.array([1, 2]), jnp.array([1, 3])).tolist() == [True, False]
    assert is_same(jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([[1.0, 2.0], [1.0, 3.0]])).tolist() == [True, False]


def test_select_chooses_whole_things():
    chosen = select(jnp.array([True, False]), jnp.ones((2, 3)), jnp.zeros((2, 3)))
    assert chosen.tolist() == [[1, 1, 1], [0, 0, 0]]
