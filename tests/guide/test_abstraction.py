"""Abstraction: the choice of pivots, against definitions in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thinking.guide import Trajectories, guide
from thinking.guide.abstraction import (
    last_pivot,
    local_maxima,
    next_pivot,
    owner_mask,
    pivot_levels,
    skip_step,
    training_mask,
    visit_counts,
    visit_density,
)
from thinking.kernels import Box, Discrete, table

T = 9
hypothesis_settings = settings(max_examples=40, deadline=None, derandomize=True)
flags = st.lists(st.booleans(), min_size=T, max_size=T).map(np.array)
trajectories = st.lists(st.integers(0, 3), min_size=T, max_size=T).map(
    lambda trajectory: np.array(trajectory, np.int32)
)
lengths = st.integers(0, T)


def prefix(length):
    return np.arange(T) < length


def peaks(values):
    """Indices of the first states of those plateaus (runs of equal values) that are higher than both neighbours."""
    peak_indices, start = [], 0
    while start < len(values):
        end = start
        while end + 1 < len(values) and values[end + 1] == values[start]:
            end += 1
        before = values[start - 1] if start else -np.inf
        after = values[end + 1] if end + 1 < len(values) else -np.inf
        if values[start] > max(before, after):
            peak_indices.append(start)
        start = end + 1
    return peak_indices


_local_maxima = jax.jit(local_maxima)


@given(heights=st.lists(st.sampled_from([-2.5, 0.0, 1.5]), min_size=T, max_size=T), valid=flags)
@hypothesis_settings
def test_local_maxima_match_plain_python(heights, valid):
    masked_heights = [height if is_valid else -np.inf for height, is_valid in zip(heights, valid, strict=True)]
    expected = [i for i in peaks(masked_heights) if valid[i]]
    assert np.flatnonzero(_local_maxima(np.array(heights, np.float32), valid)).tolist() == expected


@pytest.mark.parametrize(
    ("heights", "length", "expected"),
    [
        ([1, 2, 2, 1, 0, 0, 3, 3, 3], 9, [1, 6]),  # plateaus, one of them at the end
        ([5, 5, 4, 4, 5, 1, 1, 1, 1], 9, [0, 4]),  # a plateau at the start, and steps that are not peaks
        ([0, 1, 2, 3, 9, 9, 9, 9, 9], 4, [3]),  # states beyond the trajectory count as lower
        ([0, 1, 1, 2, 2, 1, 1, 0, 0], 9, [3]),  # terraces on the way up and down
        ([2] * 9, 9, [0]),
        ([1] * 9, 0, []),
    ],
)
def test_local_maxima_of_handwritten_paths(heights, length, expected):
    assert np.flatnonzero(_local_maxima(np.array(heights, np.float32), prefix(length))).tolist() == expected


def test_skip_step_selects_every_nth_state():
    pivots = skip_step(3).pivots((), np.zeros(T, np.int32), prefix(8))
    assert np.flatnonzero(pivots).tolist() == [0, 3, 6]
    assert skip_step(1).pivots((), np.zeros(T, np.int32), prefix(8)).tolist() == prefix(8).tolist()
    with pytest.raises(ValueError, match="at least 1"):
        skip_step(0)


count_abstraction = visit_counts(Discrete(4))
_observe_counts = jax.jit(count_abstraction.observe)


@given(batches=st.lists(st.lists(st.tuples(trajectories, lengths), min_size=2, max_size=2), max_size=3))
@hypothesis_settings
def test_visit_counts_counts_valid_visits(batches):
    counts, expected = count_abstraction.init(jax.random.key(0)), np.zeros(4, int)
    for batch in batches:
        counts = _observe_counts(
            counts, np.stack([trajectory for trajectory, _ in batch]), np.stack([prefix(n) for _, n in batch])
        )
        for trajectory, length in batch:
            expected += np.bincount(trajectory[:length], minlength=4)
    assert counts.tolist() == expected.tolist()


def test_visit_counts_counts_exactly_beyond_2_to_the_24():
    counts = jnp.full_like(count_abstraction.init(jax.random.key(0)), 2**24)
    counts = _observe_counts(counts, np.zeros((2, T), np.int32), np.stack([prefix(1)] * 2))
    assert int(counts[0]) == 2**24 + 2


def test_visit_counts_rejects_vectors():
    with pytest.raises(ValueError, match="visit_density"):
        visit_counts(Box(2))


# Visit density. Of two neighbouring states, the pivot is the one with the higher learned density.

STATES_BY_FREQUENCY = np.repeat(np.arange(6, dtype=np.int32), [16, 11, 7, 4, 2, 0]).reshape(4, 10)


@pytest.mark.parametrize("space", [Discrete(6), Box(1)], ids=["indices", "vectors"])
def test_visit_density_ranks_states_by_visit_frequency(space):
    abstraction = visit_density(space, optax.adam(3e-2), width=16)
    if isinstance(space, Discrete):
        items, state_pairs = STATES_BY_FREQUENCY, np.array([(0, 1), (1, 3), (2, 3), (3, 5), (0, 5)], np.int32)
    else:
        # The density of states falls from 0 to 1.
        items = (np.linspace(0, 1, 40, dtype=np.float32) ** 2).reshape(4, 10, 1)
        state_pairs = np.array([(0.1, 0.4), (0.3, 0.7), (0.5, 0.95), (0.1, 0.9)], np.float32)[..., None]

    @jax.jit
    def train_and_select(key):
        def step(state, _):
            return abstraction.observe(state, items, np.ones((4, 10), bool)), None

        state, _ = jax.lax.scan(step, abstraction.init(key), length=400)
        select_pivots = jax.vmap(lambda pair: abstraction.pivots(state, pair, np.ones(2, bool)))
        return select_pivots(jnp.asarray(state_pairs)), select_pivots(jnp.asarray(state_pairs[:, ::-1]))

    pivots_of_pairs, pivots_of_swapped_pairs = train_and_select(jax.random.key(1))
    assert pivots_of_pairs.tolist() == [[True, False]] * len(state_pairs)
    assert pivots_of_swapped_pairs.tolist() == [[False, True]] * len(state_pairs)


def test_visit_density_ignores_padding():
    abstraction = visit_density(Box(1), optax.sgd(0.1), width=4)
    items, valid = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6, 1), np.tile(np.arange(6) < 4, (2, 1))
    padded = np.where(valid[..., None], items, np.float32(5))

    @jax.jit
    def train_on_both(key):
        state = abstraction.init(key)
        return [
            jax.tree.leaves(abstraction.observe(state, inputs, valid).train_state.params) for inputs in (items, padded)
        ]

    for left, right in zip(*train_on_both(jax.random.key(0)), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("sign", [1, -1])
def test_visit_density_of_states_that_fill_their_bounding_box_is_flat(sign):
    abstraction = visit_density(Box(1), optax.adam(3e-2), width=16)
    valid = np.tile(np.arange(10) < 8, (5, 1))
    items = np.where(valid, sign * np.linspace(9, 10, 50, dtype=np.float32).reshape(5, 10), 0)[..., None]

    @jax.jit
    def train(key):
        return jax.lax.scan(
            lambda state, _: (abstraction.observe(state, items, valid), None), abstraction.init(key), length=400
        )[0]

    layers = train(jax.random.key(0)).train_state.params["layers"]
    first, last = ({name: np.asarray(layers[index][name][...]) for name in ("kernel", "bias")} for index in (0, 2))
    hidden = np.maximum(items[valid] @ first["kernel"] + first["bias"], 0)
    logits = hidden @ last["kernel"] + last["bias"]
    # What is visited is as likely to be a sample: a share of 1/2. A box that held the padding too would give 10/11.
    assert np.mean(jax.nn.sigmoid(logits)) == pytest.approx(0.5, abs=0.04)


def test_guide_state_contains_the_abstraction_state():
    space = Discrete(6)
    kernel = table(input=space, value=space, target=space)
    model = guide(layers=[kernel], abstraction=visit_density(space, optax.adam(1e-2), width=8))
    observe = jax.jit(model.observe)
    trajectory = Trajectories(STATES_BY_FREQUENCY, np.full(4, 10, np.int32))
    initial_state = jax.jit(model.init)(jax.random.key(0))
    updated_state, _ = observe(initial_state, trajectory)
    # Every parameter, and the key of the contrast samples, is a leaf and has changed.
    before, after = (jax.tree.leaves(s.abstraction.train_state.params) for s in (initial_state, updated_state))
    assert {leaf.shape for leaf in before} == {(6, 8), (8,), (8, 1), (1,)}
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not np.array_equal(*(jax.random.key_data(state.abstraction.key) for state in (initial_state, updated_state)))
    # The leaves are the whole state: a state rebuilt from them trains as the original does.
    abstract_state = jax.eval_shape(model.init, jax.random.key(7))
    rebuilt_state = jax.tree.unflatten(jax.tree.structure(abstract_state), jax.tree.leaves(updated_state))
    for left, right in zip(
        *(
            jax.tree.leaves(observe(s, trajectory)[0].abstraction.train_state.params)
            for s in (updated_state, rebuilt_state)
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)


# Levels and masks.

_levels = {
    "skip": jax.jit(lambda items, valid: pivot_levels(skip_step(2), (), items, valid, 3)),
    "count": jax.jit(lambda counts, items, valid: pivot_levels(count_abstraction, counts, items, valid, 3)),
}


def expected_levels(length, select_indices):
    """Pivots of each level: the selected pivots of the level below, and the trajectory's two ends."""
    levels = [list(range(length))]
    for _ in range(3):
        pivot_indices = levels[-1]
        selected = {pivot_indices[index] for index in select_indices(pivot_indices)}
        levels.append([t for t in pivot_indices if t in selected or t in (0, length - 1)])
    return levels


@given(length=lengths)
@hypothesis_settings
def test_pivot_levels_of_skip_step_match_plain_python(length):
    actual = _levels["skip"](np.zeros(T, np.int32), prefix(length))
    assert [np.flatnonzero(row).tolist() for row in actual] == expected_levels(
        length, lambda pivot_indices: range(0, len(pivot_indices), 2)
    )


@given(trajectory=trajectories, counts=st.lists(st.integers(0, 3), min_size=4, max_size=4), length=lengths)
@example(trajectory=np.array([3, 0, 1, 0, 2, 0, 2, 3, 3], np.int32), counts=[0, 1, 2, 3], length=7)  # ends on a plateau
@hypothesis_settings
def test_pivot_levels_of_visit_counts_match_plain_python(trajectory, counts, length):
    actual = np.asarray(_levels["count"](np.array(counts, np.float32), trajectory, prefix(length)))
    expected = expected_levels(length, lambda pivot_indices: peaks([counts[trajectory[t]] for t in pivot_indices]))
    assert [np.flatnonzero(row).tolist() for row in actual] == expected
    assert not np.any(actual[1:] & ~actual[:-1])  # nested
    if length:
        assert actual[:, [0, length - 1]].all()  # start and end on every level


_masks = jax.jit(lambda pivots: (next_pivot(pivots), last_pivot(pivots), training_mask(pivots), owner_mask(pivots)))


@given(pivots=flags)
@hypothesis_settings
def test_pivots_and_masks_match_plain_python(pivots):
    next_pivots, last_pivots, forward, reverse = _masks(pivots)
    pivot_indices = np.flatnonzero(pivots)
    for t in range(T):
        assert next_pivots[t] == min(pivot_indices[pivot_indices > t], default=T)
        assert last_pivots[t] == max(pivot_indices[pivot_indices < t], default=-1)
    for p in range(T):
        expected_forward, expected_reverse = [], []
        if pivots[p]:
            earlier = pivot_indices[pivot_indices < p].tolist()
            segment_start = earlier[-2] if len(earlier) > 1 else 0  # the pivot before last
            expected_forward = list(range(segment_start, p))
            expected_reverse = list(range(p, min(pivot_indices[pivot_indices > p], default=T)))
        assert np.flatnonzero(forward[p]).tolist() == expected_forward
        assert np.flatnonzero(reverse[p]).tolist() == expected_reverse
