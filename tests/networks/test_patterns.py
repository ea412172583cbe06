"""Patterns as values."""

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
    is_visible,
    memory_bounds,
    pattern_parts,
)


def visible(pattern, query, tokens=12):
    return np.flatnonzero(np.asarray(is_visible(pattern, np.int32([query]), np.arange(tokens)))).tolist()


def test_places_that_a_query_sees():
    assert visible(Window(3), 5) == [3, 4, 5, 6, 7]
    assert visible(Window(1), 5) == [5]
    assert visible(Strided(4), 5) == [1, 5, 9]
    assert visible(Strided(2, 2), 5) == [3, 5, 7]
    assert visible(Global(2), 5) == [0, 1]
    assert visible(Global(2), 1) == list(range(12))
    assert visible(Dense(), 5) == list(range(12))
    assert visible(Window(2) | Global(1), 5) == [0, 4, 5, 6]


def test_a_union_is_a_set_of_parts():
    united = Window(2) | Global(1)
    assert united | Window(2) == united == Window(2) | (Global(1) | Window(2))
    assert hash(united) == hash(Union((Window(2), Global(1))))
    assert pattern_parts(united) == (Window(2), Global(1))
    assert pattern_parts(Window(2)) == (Window(2),)
    assert Window(2) | Window(2) == Union((Window(2),))
    assert united | Dense() == Dense()


@pytest.mark.parametrize(
    "pattern", [Window(3), Strided(3, 3), Global(2), Window(2) | Global(4) | Strided(2, 4)], ids=str
)
def test_the_memory_bounds_cover_all_that_any_later_query_sees(pattern):
    first, last = memory_bounds(pattern)
    for query, key in itertools.product(range(40), repeat=2):
        if key <= query and bool(is_visible(pattern, np.int32(query), np.int32(key))):
            assert key < first or key > query - last
    assert last == 1 or bool(is_visible(pattern, np.int32(30), np.int32(30 - last + 1)))  # and no more than that


@pytest.mark.parametrize("pattern", [Dense(), Strided(2), TopK(4, 2), Window(2) | TopK(4, 2)], ids=str)
def test_what_looks_back_without_bound_needs_everything(pattern):
    assert memory_bounds(pattern) is None


def test_a_content_pattern_is_refused_by_is_visible():
    with pytest.raises(ValueError, match=r"TopK\(block=4, blocks=2\) does not go by places alone"):
        is_visible(Window(2) | TopK(4, 2), np.int32(0), np.int32(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Window(0),
        lambda: Strided(0),
        lambda: Strided(2, 0),
        lambda: Global(-1),
        lambda: TopK(4, 0),
        lambda: Window(2.5),
    ],
)
def test_sizes_start_at_one(make):
    with pytest.raises(ValueError, match=r"out of range; give a whole number, at least 1"):
        make()


def test_several_patterns_by_content_are_not_united():
    with pytest.raises(ValueError, match=r"unites several TopK; keep one"):
        TopK(1, 1) | TopK(1, 2)
