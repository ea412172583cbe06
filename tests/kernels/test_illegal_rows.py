"""What lies outside a kernel's spaces is never learned, and never answered."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kernels.cases import ALL, ROWS, assert_identical, random_batch, select_rows, to_numpy_leaves

from thinking.kernels import Discrete

QUERY_FIELDS = ("items", "length", "target")
FIELDS = (*QUERY_FIELDS, "value", "score", "mask")
NOT_FINITE = (np.nan, np.inf, -np.inf)


def for_each_case(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def illegal_entries(space):
    """Strategy of entries that no element of a space has."""
    if isinstance(space, Discrete):
        return st.sampled_from([-1, space.size, space.size + 1, 10_000, -(2**31), 2**31 - 1])
    return st.sampled_from(NOT_FINITE)


def replacements(kernel, fields):
    """Strategy of (row, field, illegal entry)."""
    spaces = kernel.spaces
    entries = {
        "items": illegal_entries(spaces.input),
        "length": st.sampled_from([-1, 0, kernel.context_length + 1]),
        "target": illegal_entries(spaces.target),
        "value": illegal_entries(spaces.value),
        "score": st.sampled_from(NOT_FINITE),
        "mask": st.sampled_from([np.nan, np.inf]),
    }
    return st.sampled_from(fields).flatmap(
        lambda field: st.tuples(st.integers(0, ROWS - 1), st.just(field), entries[field])
    )


def replace_entries(batch, replaced):
    """The batch with one entry of some rows replaced; of items the newest, which is never padding."""
    leaves = {
        "items": batch.context.items,
        "length": batch.context.length,
        **{field: getattr(batch, field) for field in FIELDS[2:]},
    }
    leaves = {field: np.array(leaf) for field, leaf in leaves.items()}
    for row, field, entry in replaced:
        leaf = leaves[field]
        index = (row, -1) if field == "items" else (row,)
        leaf[index if leaf[index].ndim == 0 else (*index, 0)] = entry
    context = batch.context._replace(items=leaves["items"], length=leaves["length"])
    return batch._replace(context=context, **{field: leaves[field] for field in FIELDS[2:]})


@for_each_case(ALL)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_illegal_rows_are_masked_in_fit(case, data):
    replaced = data.draw(st.lists(replacements(case.kernel, FIELDS), min_size=1, max_size=4))
    batch = random_batch(case.kernel, data.draw(st.integers(0, 3)))
    mask = np.ones(ROWS, np.float32)
    mask[[row for row, _, _ in replaced]] = 0
    state, metrics = case.fit(case.fitted_state, replace_entries(batch, replaced))
    assert_identical((state, metrics), case.fit(case.fitted_state, batch._replace(mask=mask)))
    assert all(np.isfinite(leaf).all() for leaf in to_numpy_leaves(metrics))


@for_each_case(ALL)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_illegal_queries_have_score_minus_infinity(case, data):
    replaced = data.draw(st.lists(replacements(case.kernel, QUERY_FIELDS), min_size=1, max_size=4))
    batch = random_batch(case.kernel, 100)  # which the state has learned
    illegal_batch = replace_entries(batch, replaced)
    hypothesis = jax.device_get(case.infer(case.fitted_state, illegal_batch.context, illegal_batch.target))
    illegal_rows = sorted({row for row, _, _ in replaced})
    legal_rows = sorted(set(range(ROWS)) - set(illegal_rows))
    assert np.array_equal(hypothesis.score[illegal_rows], np.full(len(illegal_rows), -np.inf))
    assert not hypothesis.value[illegal_rows].any()
    expected = case.infer(case.fitted_state, batch.context, batch.target)
    assert_identical(select_rows(hypothesis, legal_rows), select_rows(expected, legal_rows))
    assert (hypothesis.score[legal_rows] > -np.inf).all()


@for_each_case(ALL)
@pytest.mark.parametrize("field", ["value", "score"])
def test_kernel_learns_a_query_after_an_illegal_row_for_it(case, field):
    batch = random_batch(case.kernel, 4)
    space = case.kernel.spaces.value
    if field == "value" and isinstance(space, Discrete):
        illegal_batch = batch._replace(value=np.full(ROWS, space.size, np.int32))
    else:
        illegal_batch = batch._replace(**{field: np.full_like(getattr(batch, field), np.nan)})
    state, _ = case.fit(case.fit(case.initial_state, illegal_batch)[0], batch)
    assert_identical(state, case.fit(case.initial_state, batch)[0])
