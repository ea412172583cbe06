"""The choice of blocks in top-k attention."""

import jax
import numpy as np
import pytest

from thinking.networks.attention.top_k import choose_blocks

N = 5


def list_chosen_blocks(scores, own_block, num_blocks, *, causal=True, is_filled=(True,) * N):
    """The blocks that a single block query chooses, given the scores of all blocks."""
    block_queries, means = np.ones((1, 1, 1, 1), np.float32), np.float32(scores).reshape(1, 1, N, 1)
    index, counts = choose_blocks(
        block_queries, means, np.array([is_filled]), np.int32([[own_block]]), num_blocks, causal
    )
    assert index.shape == counts.shape == (1, 1, 1, min(num_blocks, N))
    return sorted(np.asarray(index)[np.asarray(counts)].tolist())


def test_own_block_and_best_earlier_blocks_are_chosen():
    assert list_chosen_blocks([3, 1, 2, 0, 9], own_block=3, num_blocks=3) == [0, 2, 3]
    assert list_chosen_blocks([3, 1, 2, -9, 9], own_block=3, num_blocks=1) == [3]


def test_later_blocks_are_candidates_without_causality():
    assert list_chosen_blocks([3, 1, 2, 0, 9], own_block=3, num_blocks=3, causal=False) == [0, 3, 4]


def test_fewer_blocks_are_chosen_where_fewer_are_visible():
    assert list_chosen_blocks([0, 9, 9, 9, 9], own_block=0, num_blocks=3) == [0]
    assert list_chosen_blocks([0, 9, 9, 9, 9], own_block=1, num_blocks=99) == [0, 1]


def test_empty_blocks_are_not_chosen_except_the_own_block():
    assert list_chosen_blocks(
        [9, 1, 2, 0, 9], own_block=3, num_blocks=3, is_filled=(False, True, True, False, True)
    ) == [1, 2, 3]


@pytest.mark.parametrize("num_blocks", [2, 3])
def test_ties_go_to_the_earlier_block(num_blocks):
    assert list_chosen_blocks([1, 1, 1, 1, 1], own_block=4, num_blocks=num_blocks) == [*range(num_blocks - 1), 4]


def test_rows_heads_and_block_queries_choose_independently():
    means = np.float32(np.random.default_rng(0).normal(size=(2, 3, N, 2)))
    block_queries = np.float32(np.random.default_rng(1).normal(size=(2, 3, 4, 2)))
    own_block = np.int32([[1, 2, 3, 4], [4, 4, 0, 2]])
    index, counts = jax.jit(choose_blocks, static_argnums=(4, 5))(
        block_queries, means, np.ones((1, N), bool), own_block, 2, True
    )
    for b, g, q in np.ndindex(2, 3, 4):
        scores = [float(block_queries[b, g, q] @ means[b, g, n]) for n in range(own_block[b, q])]
        expected = {int(own_block[b, q])} | ({int(np.argmax(scores))} if scores else set())
        assert set(np.asarray(index[b, g, q])[np.asarray(counts[b, g, q])].tolist()) == expected
