"""Abstraction: which states become pivots, against definitions written out in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thinking.guide import Path, guide
from thinking.guide.abstraction import (
    counted_entropy,
    forward_mask,
    last_pivot,
    learned_entropy,
    local_maxima,
    next_pivot,
    pivot_levels,
    reverse_mask,
    skip_step,
)
from thinking.kernels import Box, Discrete, table

T = 9
examples = settings(max_examples=40, deadline=None, derandomize=True)
flags = st.lists(st.booleans(), min_size=T, max_size=T).map(np.array)
paths = st.lists(st.integers(0, 3), min_size=T, max_size=T).map(lambda path: np.array(path, np.int32))
lengths = st.integers(0, T)


def prefix(length):
    return np.arange(T) < length


def peaks(values):
    """Indices of the first states of those plateaus (runs of equal values) that are higher than both neighbours."""
    pivots_found, start = [], 0
    while start < len(values):
        end = start
        while end + 1 < len(values) and values[end + 1] == values[start]:
            end += 1
        before = values[start - 1] if start else -np.inf
        after = values[end + 1] if end + 1 < len(values) else -np.inf
        if values[start] > max(before, after):
            pivots_found.append(start)
        start = end + 1
    return pivots_found


_local_maxima = jax.jit(local_maxima)


@given(heights=st.lists(st.sampled_from([-2.5, 0.0, 1.5]), min_size=T, max_size=T), valid=flags)
@examples
def test_local_maxima_are_peaks_and_a_plateau_counts_once(heights, valid):
    visited = [height if is_valid else -np.inf for height, is_valid in zip(heights, valid, strict=True)]
    wanted = [i for i in peaks(visited) if valid[i]]
    assert np.flatnonzero(_local_maxima(np.array(heights, np.float32), valid)).tolist() == wanted


@pytest.mark.parametrize(
    ("heights", "length", "wanted"),
    [
        ([1, 2, 2, 1, 0, 0, 3, 3, 3], 9, [1, 6]),  # plateaus, one of them at the end
        ([5, 5, 4, 4, 5, 1, 1, 1, 1], 9, [0, 4]),  # a plateau at the start, and steps that are no peaks
        ([0, 1, 2, 3, 9, 9, 9, 9, 9], 4, [3]),  # what lies beyond the path counts as lower
        ([0, 1, 1, 2, 2, 1, 1, 0, 0], 9, [3]),  # terraces on the way up and down
        ([2] * 9, 9, [0]),
        ([1] * 9, 0, []),
    ],
)
def test_local_maxima_of_paths_known_by_heart(heights, length, wanted):
    assert np.flatnonzero(_local_maxima(np.array(heights, np.float32), prefix(length))).tolist() == wanted


def test_skip_step_keeps_every_nth_state():
    pivots = skip_step(3).pivots((), np.zeros(T, np.int32), prefix(8))
    assert np.flatnonzero(pivots).tolist() == [0, 3, 6]
    assert skip_step(1).pivots((), np.zeros(T, np.int32), prefix(8)).tolist() == prefix(8).tolist()
    with pytest.raises(ValueError, match="at least 1"):
        skip_step(0)


counted = counted_entropy(Discrete(4))
_count = jax.jit(counted.observe)


@given(batches=st.lists(st.lists(st.tuples(paths, lengths), min_size=2, max_size=2), max_size=3))
@examples
def test_a_table_counts_every_visit_and_nothing_else(batches):
    counts, wanted = counted.init(jax.random.key(0)), np.zeros(4, int)
    for batch in batches:
        counts = _count(counts, np.stack([path for path, _ in batch]), np.stack([prefix(n) for _, n in batch]))
        for path, length in batch:
            wanted += np.bincount(path[:length], minlength=4)
    assert counts.tolist() == wanted.tolist()


def test_a_table_goes_on_counting_after_sixteen_million_visits():
    counts = jnp.full_like(counted.init(jax.random.key(0)), 2**24)
    counts = _count(counts, np.zeros((2, T), np.int32), np.stack([prefix(1)] * 2))
    assert int(counts[0]) == 2**24 + 2


def test_vectors_cannot_be_counted():
    with pytest.raises(ValueError, match="learned_entropy"):
        counted_entropy(Box(2))


# Learned statistics. Of two states side by side, the pivot is the one that the statistic ranks higher.

FREQUENT = np.repeat(np.arange(6, dtype=np.int32), [16, 11, 7, 4, 2, 0]).reshape(4, 10)


@pytest.mark.parametrize("space", [Discrete(6), Box(1)], ids=["indices", "vectors"])
def test_a_learned_statistic_ranks_states_by_how_often_they_are_visited(space):
    abstraction = learned_entropy(space, optax.adam(3e-2), width=16)
    if isinstance(space, Discrete):
        items, ranked = FREQUENT, np.array([(0, 1), (1, 3), (2, 3), (3, 5), (0, 5)], np.int32)
    else:
        # The more often, the nearer to 0: a density that falls from 0 to 1.
        items = (np.linspace(0, 1, 40, dtype=np.float32) ** 2).reshape(4, 10, 1)
        ranked = np.array([(0.1, 0.4), (0.3, 0.7), (0.5, 0.95), (0.1, 0.9)], np.float32)[..., None]

    @jax.jit
    def learn_and_choose(key):
        def step(state, _):
            return abstraction.observe(state, items, np.ones((4, 10), bool)), None

        state, _ = jax.lax.scan(step, abstraction.init(key), length=400)
        choose = jax.vmap(lambda pair: abstraction.pivots(state, pair, np.ones(2, bool)))
        return choose(jnp.asarray(ranked)), choose(jnp.asarray(ranked[:, ::-1]))

    better_first, better_last = learn_and_choose(jax.random.key(1))
    assert better_first.tolist() == [[True, False]] * len(ranked)
    assert better_last.tolist() == [[False, True]] * len(ranked)


def test_padding_does_not_train_a_learned_statistic():
    abstraction = learned_entropy(Box(1), optax.sgd(0.1), width=4)
    items, valid = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6, 1), np.tile(np.arange(6) < 4, (2, 1))
    padded = np.where(valid[..., None], items, np.float32(5))

    @jax.jit
    def learn(key):
        state = abstraction.init(key)
        return [
            jax.tree.leaves(abstraction.observe(state, visited, valid).train_state.params)
            for visited in (items, padded)
        ]

    for left, right in zip(*learn(jax.random.key(0)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_what_is_learned_for_pivots_is_part_of_the_guides_state():
    space = Discrete(6)
    kernel = table(input=space, value=space, target=space)
    built = guide(layers=[kernel], abstraction=learned_entropy(space, optax.adam(1e-2), width=8))
    observe = jax.jit(built.observe)
    path = Path(FREQUENT, np.full(4, 10, np.int32))
    start = jax.jit(built.init)(jax.random.key(0))
    once, _ = observe(start, path)
    # Every parameter, and the key that draws the contrast, is a leaf and has moved.
    before, after = (jax.tree.leaves(s.abstraction.train_state.params) for s in (start, once))
    assert {leaf.shape for leaf in before} == {(6, 8), (8,), (8, 1), (1,)}
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not np.array_equal(*(jax.random.key_data(state.abstraction.key) for state in (start, once)))
    # Nothing hides outside of the leaves: a state rebuilt from them goes on as the original does.
    fresh = jax.eval_shape(built.init, jax.random.key(7))
    rebuilt = jax.tree.unflatten(jax.tree.structure(fresh), jax.tree.leaves(once))
    for left, right in zip(
        *(jax.tree.leaves(observe(s, path)[0].abstraction.train_state.params) for s in (once, rebuilt)), strict=True
    ):
        np.testing.assert_array_equal(left, right)


# Levels and masks.

_levels = {
    "skip": jax.jit(lambda items, valid: pivot_levels(skip_step(2), (), items, valid, 3)),
    "count": jax.jit(lambda counts, items, valid: pivot_levels(counted, counts, items, valid, 3)),
}


def levels_of(length, choose):
    """Pivots level by level: of those of the level below, the chosen ones and the path's two ends."""
    levels = [list(range(length))]
    for _ in range(3):
        pivot_indices = levels[-1]
        chosen = {pivot_indices[place] for place in choose(pivot_indices)}
        levels.append([t for t in pivot_indices if t in chosen or t in (0, length - 1)])
    return levels


@given(length=lengths)
@examples
def test_every_second_pivot_of_a_level_is_a_pivot_of_the_next(length):
    pivots_found = _levels["skip"](np.zeros(T, np.int32), prefix(length))
    assert [np.flatnonzero(row).tolist() for row in pivots_found] == levels_of(
        length, lambda pivot_indices: range(0, len(pivot_indices), 2)
    )


@given(path=paths, counts=st.lists(st.integers(0, 3), min_size=4, max_size=4), length=lengths)
@example(path=np.array([3, 0, 1, 0, 2, 0, 2, 3, 3], np.int32), counts=[0, 1, 2, 3], length=7)  # ends on a plateau
@examples
def test_local_maxima_among_the_pivots_of_a_level_are_pivots_of_the_next(path, counts, length):
    pivots_found = np.asarray(_levels["count"](np.array(counts, np.float32), path, prefix(length)))
    wanted = levels_of(length, lambda pivot_indices: peaks([counts[path[t]] for t in pivot_indices]))
    assert [np.flatnonzero(row).tolist() for row in pivots_found] == wanted
    assert not np.any(pivots_found[1:] & ~pivots_found[:-1])  # nested
    if length:
        assert pivots_found[:, [0, length - 1]].all()  # start and end on every level


_masks = jax.jit(lambda pivots: (next_pivot(pivots), last_pivot(pivots), forward_mask(pivots), reverse_mask(pivots)))


@given(pivots=flags)
@examples
def test_masks_are_what_their_docstrings_say(pivots):
    following, before, forward, reverse = _masks(pivots)
    places = np.flatnonzero(pivots)
    for t in range(T):
        assert following[t] == min(places[places > t], default=T)
        assert before[t] == max(places[places < t], default=-1)
    for p in range(T):
        learn, stands_for = [], []
        if pivots[p]:
            earlier = places[places < p].tolist()
            since = earlier[-2] if len(earlier) > 1 else 0  # the pivot before last
            learn = list(range(since, p))
            stands_for = list(range(p, min(places[places > p], default=T)))
        assert np.flatnonzero(forward[p]).tolist() == learn
        assert np.flatnonzero(reverse[p]).tolist() == stands_for
