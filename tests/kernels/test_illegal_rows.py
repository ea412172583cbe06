"""What lies outside a kernel's spaces is never learned, and never answered."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kernels.cases import ALL, ROWS, assert_identical, plain, random_batch, rows

from thinking.kernels import Discrete

QUERY_PARTS = ("items", "length", "target")
PARTS = (*QUERY_PARTS, "value", "score", "mask")
NOT_FINITE = (np.nan, np.inf, -np.inf)


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def illegal(space):
    """Strategy of elements outside a space, each as the number that spoils one entry."""
    if isinstance(space, Discrete):
        return st.sampled_from([-1, space.size, space.size + 1, 10_000, -(2**31), 2**31 - 1])
    return st.sampled_from(NOT_FINITE)


def spoilers(kernel, parts):
    """Strategy of (row, part, bad entry)."""
    spaces = kernel.spaces
    bad = {
        "items": illegal(spaces.input),
        "length": st.sampled_from([-1, 0, kernel.context_length + 1]),
        "target": illegal(spaces.target),
        "value": illegal(spaces.value),
        "score": st.sampled_from(NOT_FINITE),
        "mask": st.sampled_from([np.nan, np.inf]),
    }
    return st.sampled_from(parts).flatmap(lambda part: st.tuples(st.integers(0, ROWS - 1), st.just(part), bad[part]))


def spoil(batch, spoiled):
    """The batch with one entry of some rows replaced; of items the newest, which is never padding."""
    leaves = {
        "items": batch.context.items,
        "length": batch.context.length,
        **{part: getattr(batch, part) for part in PARTS[2:]},
    }
    leaves = {part: np.array(leaf) for part, leaf in leaves.items()}
    for row, part, bad in spoiled:
        leaf = leaves[part]
        at = (row, -1) if part == "items" else (row,)
        leaf[at if leaf[at].ndim == 0 else (*at, 0)] = bad
    context = batch.context._replace(items=leaves["items"], length=leaves["length"])
    return batch._replace(context=context, **{part: leaves[part] for part in PARTS[2:]})


@over(ALL)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_illegal_row_of_a_batch_changes_as_little_as_one_of_weight_0(case, data):
    spoiled = data.draw(st.lists(spoilers(case.kernel, PARTS), min_size=1, max_size=4))
    batch = random_batch(case.kernel, data.draw(st.integers(0, 3)))
    mask = np.ones(ROWS, np.float32)
    mask[[row for row, _, _ in spoiled]] = 0
    state, metrics = case.fit(case.fitted, spoil(batch, spoiled))
    assert_identical((state, metrics), case.fit(case.fitted, batch._replace(mask=mask)))
    assert all(np.isfinite(leaf).all() for leaf in plain(metrics))


@over(ALL)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_illegal_query_has_score_minus_infinity_and_leaves_its_neighbours_alone(case, data):
    spoiled = data.draw(st.lists(spoilers(case.kernel, QUERY_PARTS), min_size=1, max_size=4))
    batch = random_batch(case.kernel, 100)  # which the state has learned
    bad = spoil(batch, spoiled)
    hypothesis = jax.device_get(case.infer(case.fitted, bad.context, bad.target))
    illegal_rows = sorted({row for row, _, _ in spoiled})
    legal_rows = sorted(set(range(ROWS)) - set(illegal_rows))
    assert np.array_equal(hypothesis.score[illegal_rows], np.full(len(illegal_rows), -np.inf))
    assert not hypothesis.value[illegal_rows].any()
    expected = case.infer(case.fitted, batch.context, batch.target)
    assert_identical(rows(hypothesis, legal_rows), rows(expected, legal_rows))
    assert (hypothesis.score[legal_rows] > -np.inf).all()


@over(ALL)
@pytest.mark.parametrize("part", ["value", "score"])
def test_a_kernel_learns_a_query_after_a_row_of_nan_for_it(case, part):
    batch = random_batch(case.kernel, 4)
    space = case.kernel.spaces.value
    if part == "value" and isinstance(space, Discrete):
        bad = batch._replace(value=np.full(ROWS, space.size, np.int32))
    else:
        bad = batch._replace(**{part: np.full_like(getattr(batch, part), np.nan)})
    after, _ = case.fit(case.fit(case.fresh, bad)[0], batch)
    assert_identical(after, case.fit(case.fresh, batch)[0])
