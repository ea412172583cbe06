"""Attention patterns."""

import itertools

import numpy as np
import pytest

from thinking.networks.attention.patterns import (
    Dense,
    Global,
    Strided,
    TopK,
    Union,
    Window,
    cache_bounds,
    is_visible,
    pattern_parts,
)


def list_visible(pattern, query, num_tokens=12):
    return np.flatnonzero(np.asarray(is_visible(pattern, np.int32([query]), np.arange(num_tokens)))).tolist()


def test_visible_positions_of_each_pattern():
    assert list_visible(Window(3), 5) == [3, 4, 5, 6, 7]
    assert list_visible(Window(1), 5) == [5]
    assert list_visible(Strided(4), 5) == [1, 5, 9]
    assert list_visible(Strided(2, 2), 5) == [3, 5, 7]
    assert list_visible(Global(2), 5) == [0, 1]
    assert list_visible(Global(2), 1) == list(range(12))
    assert list_visible(Dense(), 5) == list(range(12))
    assert list_visible(Window(2) | Global(1), 5) == [0, 4, 5, 6]


def test_unions_compare_as_sets_of_parts():
    union = Window(2) | Global(1)
    assert union | Window(2) == union == Window(2) | (Global(1) | Window(2))
    assert hash(union) == hash(Union((Window(2), Global(1))))
    assert pattern_parts(union) == (Window(2), Global(1))
    assert pattern_parts(Window(2)) == (Window(2),)
    assert Window(2) | Window(2) == Union((Window(2),))
    assert union | Dense() == Dense()


@pytest.mark.parametrize(
    "pattern", [Window(3), Strided(3, 3), Global(2), Window(2) | Global(4) | Strided(2, 4)], ids=str
)
def test_cache_bounds_cover_every_visible_key(pattern):
    first, last = cache_bounds(pattern)
    for query, key in itertools.product(range(40), repeat=2):
        if key <= query and bool(is_visible(pattern, np.int32(query), np.int32(key))):
            assert key < first or key > query - last
    assert last == 1 or bool(is_visible(pattern, np.int32(30), np.int32(30 - last + 1)))  # the bound is tight


@pytest.mark.parametrize("pattern", [Dense(), Strided(2), TopK(4, 2), Window(2) | TopK(4, 2)], ids=str)
def test_unbounded_patterns_have_no_cache_bounds(pattern):
    assert cache_bounds(pattern) is None


def test_is_visible_rejects_top_k():
    with pytest.raises(ValueError, match=r"TopK\(block_size=4, num_blocks=2\) depends on content"):
        is_visible(Window(2) | TopK(4, 2), np.int32(0), np.int32(0))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Window(0),
        lambda: Strided(0),
        lambda: Strided(2, 0),
        lambda: Global(-1),
        lambda: TopK(4, 0),
        lambda: Window(2.5),
    ],
)
def test_sizes_below_1_are_rejected(build):
    with pytest.raises(ValueError, match=r"out of range; give a whole number, at least 1"):
        build()


def test_union_of_several_top_k_is_rejected():
    with pytest.raises(ValueError, match=r"unites several TopK; keep one"):
        TopK(1, 1) | TopK(1, 2)
