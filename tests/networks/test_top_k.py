"""The choice of blocks."""

import jax
import numpy as np
import pytest

from thinking.networks.attention.top_k import choose_blocks

N = 5


def choose(scores, own, blocks, *, causal=True, filled=(True,) * N):
    """What a single block query chooses among blocks of given scores."""
    block_queries, means = np.ones((1, 1, 1, 1), np.float32), np.float32(scores).reshape(1, 1, N, 1)
    index, counts = choose_blocks(block_queries, means, np.array([filled]), np.int32([[own]]), blocks, causal)
    assert index.shape == counts.shape == (1, 1, 1, min(blocks, N))
    return sorted(np.asarray(index)[np.asarray(counts)].tolist())


def test_the_own_block_and_the_best_before_it_are_chosen():
    assert choose([3, 1, 2, 0, 9], own=3, blocks=3) == [0, 2, 3]
    assert choose([3, 1, 2, -9, 9], own=3, blocks=1) == [3]


def test_without_causality_later_blocks_are_candidates():
    assert choose([3, 1, 2, 0, 9], own=3, blocks=3, causal=False) == [0, 3, 4]


def test_the_first_block_has_none_but_itself_and_more_than_there_are_cannot_be_chosen():
    assert choose([0, 9, 9, 9, 9], own=0, blocks=3) == [0]
    assert choose([0, 9, 9, 9, 9], own=1, blocks=99) == [0, 1]


def test_empty_blocks_are_never_chosen_but_the_own_one_always():
    assert choose([9, 1, 2, 0, 9], own=3, blocks=3, filled=(False, True, True, False, True)) == [1, 2, 3]


@pytest.mark.parametrize("blocks", [2, 3])
def test_of_equal_blocks_the_earlier_is_chosen(blocks):
    assert choose([1, 1, 1, 1, 1], own=4, blocks=blocks) == [*range(blocks - 1), 4]


def test_each_row_head_and_block_query_chooses_for_itself():
    scores = np.float32(np.random.default_rng(0).normal(size=(2, 3, N, 2)))
    block_queries = np.float32(np.random.default_rng(1).normal(size=(2, 3, 4, 2)))
    own = np.int32([[1, 2, 3, 4], [4, 4, 0, 2]])
    index, counts = jax.jit(choose_blocks, static_argnums=(4, 5))(
        block_queries, scores, np.ones((1, N), bool), own, 2, True
    )
    for b, g, q in np.ndindex(2, 3, 4):
        before = [float(block_queries[b, g, q] @ scores[b, g, n]) for n in range(own[b, q])]
        expected = {int(own[b, q])} | ({int(np.argmax(before))} if before else set())
        assert set(np.asarray(index[b, g, q])[np.asarray(counts[b, g, q])].tolist()) == expected
