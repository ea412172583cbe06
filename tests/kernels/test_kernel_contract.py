"""The contract of all kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.kernels.cases import (
    ALL,
    EXACT,
    GRADIENT,
    ROWS,
    assert_equal,
    assert_identical,
    draw_values,
    invalid_values,
    make_context,
    make_transition,
    random_batch,
    select_layer,
    select_rows,
    to_numpy_leaves,
)
from tests.kernels.quick import jit

from thinking.experiment import checkpoint
from thinking.kernels import Discrete, score_access, value_access

LONG_CONTEXT_CASES = [case for case in ALL if case.kernel.context_length > 1]


def for_each_case(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


# Transformations


@for_each_case([*EXACT, *[case for case in GRADIENT if case.kernel.context_length > 1]])
def test_vmap_over_layers_and_scan_over_steps_match_a_loop(case):
    kernel, num_steps = case.kernel, 2
    batches = [random_batch(kernel, seed) for seed in range(2 * num_steps)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, num_steps, *leaves[0].shape), *batches)

    def step(state, batch):
        state, _ = kernel.fit(state, batch)
        return state, kernel.infer(state, batch.context, batch.target)

    states, hypotheses = jit(jax.vmap(lambda state, batch: jax.lax.scan(step, state, batch)))(
        case.stacked_states, stacked
    )
    for layer in range(2):
        state = select_layer(case.stacked_states, layer)
        for step_index, batch in enumerate(batches[layer * num_steps : (layer + 1) * num_steps]):
            state, _ = case.fit(state, batch)
            hypothesis = case.infer(state, batch.context, batch.target)
            assert_equal(
                case,
                jax.tree.map(lambda leaf, index=(layer, step_index): np.asarray(leaf)[index], hypotheses),
                hypothesis,
            )
        assert_equal(case, select_layer(states, layer), state)


@for_each_case(ALL)
def test_fit_keeps_shapes_and_types_of_the_state(case):
    def types(tree):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]

    batch = random_batch(case.kernel, 0)
    fresh = jax.eval_shape(case.kernel.init, jax.random.key(0))
    assert types(fresh) == types(jax.eval_shape(lambda state: case.kernel.fit(state, batch)[0], fresh))


@for_each_case(ALL)
def test_hypothesis_has_the_shape_and_dtype_of_its_space(case):
    batch, space = random_batch(case.kernel, 0), case.kernel.spaces.value
    hypothesis = case.infer(case.fitted_state, batch.context, batch.target)
    assert (hypothesis.value.shape, hypothesis.value.dtype) == ((ROWS, *space.shape), space.dtype)
    assert (hypothesis.score.shape, hypothesis.score.dtype) == ((ROWS,), jnp.float32)


@for_each_case(GRADIENT)
def test_init_with_another_key_gives_other_params_and_key(case):
    leaves, other_leaves = (
        to_numpy_leaves(select_layer(case.stacked_states, 0)),
        to_numpy_leaves(select_layer(case.stacked_states, 1)),
    )
    assert any(not np.array_equal(a, b) for a, b in zip(leaves[:-1], other_leaves[:-1], strict=True))
    assert not np.array_equal(leaves[-1], other_leaves[-1])


# Checkpoints


@pytest.fixture(scope="module")
def restored_states(tmp_path_factory):
    """The state of every kernel after two batches, saved and restored."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with checkpoint.Saver(folder) as saver:
        saver.save(2, {case.name: case.fitted_state for case in ALL}, {})
    return checkpoint.restore(folder, {case.name: case.initial_state for case in ALL}).state


@for_each_case(ALL)
def test_restored_state_is_identical_and_trains_identically(case, restored_states):
    assert_identical(restored_states[case.name], case.fitted_state)
    batch = random_batch(case.kernel, 7)
    assert_identical(case.fit(restored_states[case.name], batch), case.fit(case.fitted_state, batch))


# Masks


def invalidate_rows(kernel, batch, indices):
    """The batch with everything but the mask of some rows replaced by garbage."""
    num_rows, spaces = len(indices), kernel.spaces
    invalid_rows = make_transition(
        invalid_values(spaces.input, num_rows, kernel.context_length),
        np.resize([99, 0], num_rows),
        invalid_values(spaces.target, num_rows),
        invalid_values(spaces.value, num_rows),
        np.full(num_rows, np.nan),
    )

    def replace_rows(leaf, invalid):
        leaf = np.array(leaf)
        leaf[list(indices)] = invalid
        return leaf

    return jax.tree.map(replace_rows, batch, invalid_rows)._replace(mask=batch.mask)


@for_each_case(ALL)
def test_fully_masked_batch_leaves_the_state_unchanged(case):
    batch = random_batch(case.kernel, 1)._replace(mask=np.zeros(ROWS, np.float32))
    assert_identical(case.fit(case.fitted_state, batch)[0], case.fitted_state)
    assert_identical(
        case.fit(case.fitted_state, invalidate_rows(case.kernel, batch, range(ROWS)))[0], case.fitted_state
    )


@for_each_case(ALL)
def test_masked_rows_are_never_read(case):
    batch = random_batch(case.kernel, 1)._replace(mask=jnp.asarray([1.0, 0, 0.5, 0, 1, 0]))
    expected = case.fit(case.fitted_state, batch)
    assert all(np.isfinite(leaf).all() for leaf in to_numpy_leaves(expected[1]))
    assert_identical(case.fit(case.fitted_state, invalidate_rows(case.kernel, batch, [1, 3, 5])), expected)


@for_each_case(ALL)
def test_mask_is_a_weight_per_row(case):
    batch = random_batch(case.kernel, 2)._replace(score=jnp.asarray([0.5, 0.25, 0.75, 0.5, 1, 1]))
    weighted_batch = batch._replace(mask=jnp.asarray([2.0, 1, 2, 1, 0, 0]))
    repeated_batch = select_rows(batch, [0, 0, 1, 2, 2, 3])
    state, _ = case.fit(case.initial_state, weighted_batch)
    assert_equal(case, state, case.fit(case.initial_state, repeated_batch)[0])
    unweighted_state, _ = case.fit(case.initial_state, batch)
    assert any(
        not np.array_equal(a, b) for a, b in zip(to_numpy_leaves(state), to_numpy_leaves(unweighted_state), strict=True)
    )


# Contradictory batches


def contradictory_batch(case, make_padding):
    """Two queries with three values each. They differ in the target or, for longer contexts, in the context.

    Returns:
        The batch, and the row of the best value of each query.
    """
    kernel = case.kernel
    spaces, rng = kernel.spaces, np.random.default_rng(3)
    is_long = kernel.context_length > 1
    items = make_padding(spaces.input, 2, kernel.context_length)
    items[:, -1] = draw_values(rng, spaces.input)
    if is_long:
        items[1, -2] = draw_values(rng, spaces.input)
    if isinstance(spaces.target, Discrete):
        targets = np.asarray([0, 0 if is_long else 1])
    else:
        targets = draw_values(rng, spaces.target, 2)
        targets[1] = targets[0] if is_long else targets[1]
    if isinstance(spaces.value, Discrete):
        values = np.asarray([0, 1, 2, 3, 2, 0])
    else:
        values = rng.normal(size=(6, spaces.value.dims)).astype(np.float32)
    query_index = np.repeat([0, 1], 3)
    lengths = np.asarray([1, 2 if is_long else 1])
    scores = [0.3, 0.9, 0.6, 0.6, 0.3, 0.9]
    return make_transition(items[query_index], lengths[query_index], targets[query_index], values, scores), [1, 5]


def zeros(space, *shape):
    return np.zeros((*shape, *space.shape), space.dtype)


@for_each_case(ALL)
def test_infer_returns_the_best_of_contradictory_values(case):
    batch, best_rows = contradictory_batch(case, zeros)
    state = case.initial_state
    for _ in range(1 if case.is_exact else 800):
        state, _ = case.fit(state, batch)
    # The queries have invalid padding, so they match the batch only if padding is never read.
    query, _ = contradictory_batch(case, invalid_values)
    hypothesis = case.infer(state, query.context, query.target)
    expected = select_rows(batch, np.repeat(best_rows, 3))
    # One row in three pulls a slot's score to the row's, and two in three, weighted by the penalty, to 0.
    penalty = (score_access() if "score access" in case.name else value_access()).penalty
    expected_fraction = 1 if case.is_exact else 1 / (1 + 2 * penalty)
    np.testing.assert_allclose(hypothesis.value, expected.value, atol=0 if case.is_exact else 0.05)
    np.testing.assert_allclose(
        hypothesis.score, expected_fraction * np.asarray(expected.score), atol=0 if case.is_exact else 0.03
    )


# Short contexts


@for_each_case(LONG_CONTEXT_CASES)
def test_padding_of_contexts_is_never_read(case):
    spaces, context_length = case.kernel.spaces, case.kernel.context_length
    batch = random_batch(case.kernel, 4)
    batch = batch._replace(context=batch.context._replace(length=jnp.asarray([1, 2, 3, 1, 2, 3])))
    padding = np.arange(context_length)[None] < context_length - np.asarray(batch.context.length)[:, None]
    items = np.array(batch.context.items)
    items[padding] = invalid_values(spaces.input, int(padding.sum()))
    padded_batch = batch._replace(context=make_context(items, batch.context.length))
    assert_identical(case.fit(case.fitted_state, padded_batch), case.fit(case.fitted_state, batch))
    hypothesis = case.infer(case.fitted_state, padded_batch.context, batch.target)
    assert_identical(hypothesis, case.infer(case.fitted_state, batch.context, batch.target))


def batch_with_one_valid_row(kernel):
    """A batch whose first row has a score of 1, and whose other rows are masked."""
    mask = np.eye(ROWS, dtype=np.float32)[0]
    return random_batch(kernel, 4)._replace(mask=mask, score=np.ones(ROWS, np.float32))


@for_each_case(LONG_CONTEXT_CASES)
def test_score_depends_on_every_item_of_a_context(case):
    batch = batch_with_one_valid_row(case.kernel)
    full_length = np.full(ROWS, case.kernel.context_length)
    state, _ = case.fit(case.initial_state, batch._replace(context=make_context(batch.context.items, full_length)))
    hypothesis = case.infer(state, make_context(batch.context.items, full_length), batch.target)
    for index in range(case.kernel.context_length):
        items = np.array(batch.context.items)
        items[:, index] = (items[:, index] + 1) % (case.kernel.spaces.input.size if items.ndim == 2 else 10)
        other = case.infer(state, make_context(items, full_length), batch.target)
        assert np.asarray(hypothesis.score)[0] != np.asarray(other.score)[0], index


@for_each_case(ALL)
def test_score_depends_on_every_part_of_a_target(case):
    batch = batch_with_one_valid_row(case.kernel)
    state, _ = case.fit(case.initial_state, batch)
    hypothesis = case.infer(state, batch.context, batch.target)
    if isinstance(case.kernel.spaces.target, Discrete):
        other_targets = [(np.asarray(batch.target) + 1) % np.int32(case.kernel.spaces.target.size)]
    else:
        other_targets = list(np.asarray(batch.target)[None] + np.eye(batch.target.shape[1], dtype=np.float32)[:, None])
    for other_target in other_targets:
        score = case.infer(state, batch.context, other_target).score
        assert np.asarray(score)[0] != np.asarray(hypothesis.score)[0]


@for_each_case([case for case in EXACT if case.kernel.context_length > 1])
def test_exact_kernels_distinguish_context_lengths(case):
    batch = random_batch(case.kernel, 5)._replace(score=np.ones(ROWS, np.float32))
    short_context = make_context(batch.context.items, np.ones(ROWS))
    state, _ = case.fit(case.initial_state, batch._replace(context=short_context))
    assert np.all(np.asarray(case.infer(state, short_context, batch.target).score) == 1)
    for length in range(2, case.kernel.context_length + 1):
        long_context = make_context(batch.context.items, np.full(ROWS, length))
        assert np.all(np.asarray(case.infer(state, long_context, batch.target).score) == -np.inf)


# Shapes


@pytest.mark.parametrize("field", ["context.items", "context.length", "target", "value", "score", "mask"])
@for_each_case([EXACT[0], EXACT[2], GRADIENT[0], GRADIENT[-1]])
def test_wrong_shapes_are_rejected_by_name(case, field):
    batch = jax.tree.map(np.asarray, random_batch(case.kernel, 0))
    invalid_batch = {
        "context.items": batch._replace(
            context=make_context(np.concatenate([batch.context.items] * 2, axis=1), batch.context.length)
        ),
        "context.length": batch._replace(context=make_context(batch.context.items, [1])),
        "target": batch._replace(target=batch.target[:, None]),
        "value": batch._replace(value=batch.value[:1]),
        "score": batch._replace(score=batch.score[:1]),
        "mask": batch._replace(mask=batch.mask[:1]),
    }[field]
    with pytest.raises(ValueError, match=field) as error:
        jax.eval_shape(case.kernel.fit, case.initial_state, invalid_batch)
    assert "\n" not in str(error.value)
    if field in ("context.items", "context.length", "target"):
        with pytest.raises(ValueError, match=field):
            jax.eval_shape(case.kernel.infer, case.initial_state, invalid_batch.context, invalid_batch.target)
