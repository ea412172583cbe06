"""What every kernel promises, whichever it is."""

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
    context,
    draw,
    garbage,
    layer,
    plain,
    random_batch,
    rows,
    transition,
)
from tests.kernels.quick import jit

from thinking.experiment import checkpoint
from thinking.kernels import Discrete, score_access, value_access

LONG = [case for case in ALL if case.kernel.context_length > 1]


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


# Transformations


@over([*EXACT, *[case for case in GRADIENT if case.kernel.context_length > 1]])
def test_layers_mapped_over_and_steps_scanned_learn_what_each_learns_alone(case):
    kernel, steps = case.kernel, 2
    batches = [random_batch(kernel, seed) for seed in range(2 * steps)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(2, steps, *leaves[0].shape), *batches)

    def step(state, batch):
        state, _ = kernel.fit(state, batch)
        return state, kernel.infer(state, batch.context, batch.target)

    states, hypotheses = jit(jax.vmap(lambda state, batch: jax.lax.scan(step, state, batch)))(case.layers, stacked)
    for which in range(2):
        state = layer(case.layers, which)
        for number, batch in enumerate(batches[which * steps : (which + 1) * steps]):
            state, _ = case.fit(state, batch)
            hypothesis = case.infer(state, batch.context, batch.target)
            assert_equal(
                case, jax.tree.map(lambda leaf, at=(which, number): np.asarray(leaf)[at], hypotheses), hypothesis
            )
        assert_equal(case, layer(states, which), state)


@over(ALL)
def test_a_fitted_state_is_of_the_type_of_a_fresh_one_so_that_nothing_compiles_twice(case):
    def types(tree):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]

    batch = random_batch(case.kernel, 0)
    fresh = jax.eval_shape(case.kernel.init, jax.random.key(0))
    assert types(fresh) == types(jax.eval_shape(lambda state: case.kernel.fit(state, batch)[0], fresh))


@over(ALL)
def test_an_answer_has_the_shape_and_type_of_its_space(case):
    batch, space = random_batch(case.kernel, 0), case.kernel.spaces.value
    hypothesis = case.infer(case.fitted, batch.context, batch.target)
    assert (hypothesis.value.shape, hypothesis.value.dtype) == ((ROWS, *space.shape), space.dtype)
    assert (hypothesis.score.shape, hypothesis.score.dtype) == ((ROWS,), jnp.float32)


@over(GRADIENT)
def test_other_keys_give_other_weights_and_another_dropout(case):
    one, other = plain(layer(case.layers, 0)), plain(layer(case.layers, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one[:-1], other[:-1], strict=True))
    assert not np.array_equal(one[-1], other[-1])


# Checkpoints


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """The state of every kernel after two batches, through one checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with checkpoint.Saver(folder) as saver:
        saver.save(2, {case.name: case.fitted for case in ALL}, {})
    return checkpoint.restore(folder, {case.name: case.fresh for case in ALL}).state


@over(ALL)
def test_a_state_comes_back_from_a_checkpoint_bit_for_bit_and_goes_on_as_if_never_saved(case, restored):
    assert_identical(restored[case.name], case.fitted)
    batch = random_batch(case.kernel, 7)
    assert_identical(case.fit(restored[case.name], batch), case.fit(case.fitted, batch))


# Masks


def spoil(kernel, batch, which):
    """The batch with everything but the mask of some rows replaced by garbage."""
    count, spaces = len(which), kernel.spaces
    worst = transition(
        garbage(spaces.input, count, kernel.context_length),
        np.resize([99, 0], count),
        garbage(spaces.target, count),
        garbage(spaces.value, count),
        np.full(count, np.nan),
    )

    def put_in(leaf, bad):
        leaf = np.array(leaf)
        leaf[list(which)] = bad
        return leaf

    return jax.tree.map(put_in, batch, worst)._replace(mask=batch.mask)


@over(ALL)
def test_a_batch_of_rows_of_mask_0_changes_not_a_bit_of_the_state(case):
    batch = random_batch(case.kernel, 1)._replace(mask=np.zeros(ROWS, np.float32))
    assert_identical(case.fit(case.fitted, batch)[0], case.fitted)
    assert_identical(case.fit(case.fitted, spoil(case.kernel, batch, range(ROWS)))[0], case.fitted)


@over(ALL)
def test_what_stands_in_a_row_of_mask_0_is_never_read(case):
    batch = random_batch(case.kernel, 1)._replace(mask=jnp.asarray([1.0, 0, 0.5, 0, 1, 0]))
    clean = case.fit(case.fitted, batch)
    assert all(np.isfinite(leaf).all() for leaf in plain(clean[1]))
    assert_identical(case.fit(case.fitted, spoil(case.kernel, batch, [1, 3, 5])), clean)


@over(ALL)
def test_a_row_of_mask_2_counts_as_two_rows_and_one_of_mask_0_as_none(case):
    batch = random_batch(case.kernel, 2)._replace(score=jnp.asarray([0.5, 0.25, 0.75, 0.5, 1, 1]))
    weighed = batch._replace(mask=jnp.asarray([2.0, 1, 2, 1, 0, 0]))
    repeated = rows(batch, [0, 0, 1, 2, 2, 3])
    state, _ = case.fit(case.fresh, weighed)
    assert_equal(case, state, case.fit(case.fresh, repeated)[0])
    unweighed, _ = case.fit(case.fresh, batch)
    assert any(not np.array_equal(a, b) for a, b in zip(plain(state), plain(unweighed), strict=True))


# Contradiction


def contradiction(case, pad):
    """Two questions with three answers each: of every other target or, if there is room, of longer memory.

    Returns:
        The batch, and the row of the best answer to each question.
    """
    kernel = case.kernel
    spaces, random = kernel.spaces, np.random.default_rng(3)
    long = kernel.context_length > 1
    items = pad(spaces.input, 2, kernel.context_length)
    items[:, -1] = draw(random, spaces.input)
    if long:
        items[1, -2] = draw(random, spaces.input)
    if isinstance(spaces.target, Discrete):
        targets = np.asarray([0, 0 if long else 1])
    else:
        targets = draw(random, spaces.target, 2)
        targets[1] = targets[0] if long else targets[1]
    if isinstance(spaces.value, Discrete):
        values = np.asarray([0, 1, 2, 3, 2, 0])
    else:
        values = random.normal(size=(6, spaces.value.dims)).astype(np.float32)
    question = np.repeat([0, 1], 3)
    lengths = np.asarray([1, 2 if long else 1])
    scores = [0.3, 0.9, 0.6, 0.6, 0.3, 0.9]
    return transition(items[question], lengths[question], targets[question], values, scores), [1, 5]


def zeros(space, *shape):
    return np.zeros((*shape, *space.shape), space.dtype)


@over(ALL)
def test_of_contradictory_answers_the_best_scored_is_given_and_not_an_average(case):
    batch, best = contradiction(case, zeros)
    state = case.fresh
    for _ in range(1 if case.exact else 800):
        state, _ = case.fit(state, batch)
    # The questions are asked with a padding of garbage, so they are found again only if it is never read.
    query, _ = contradiction(case, garbage)
    hypothesis = case.infer(state, query.context, query.target)
    expected = rows(batch, np.repeat(best, 3))
    # One answer in three pulls a slot to its score, and two in three, with the penalty's weight, to 0.
    penalty = (score_access() if "score access" in case.name else value_access()).penalty
    balance = 1 if case.exact else 1 / (1 + 2 * penalty)
    np.testing.assert_allclose(hypothesis.value, expected.value, atol=0 if case.exact else 0.05)
    np.testing.assert_allclose(hypothesis.score, balance * np.asarray(expected.score), atol=0 if case.exact else 0.03)


# Short contexts


@over(LONG)
def test_what_stands_in_the_padding_is_never_read(case):
    spaces, capacity = case.kernel.spaces, case.kernel.context_length
    batch = random_batch(case.kernel, 4)
    batch = batch._replace(context=batch.context._replace(length=jnp.asarray([1, 2, 3, 1, 2, 3])))
    padding = np.arange(capacity)[None] < capacity - np.asarray(batch.context.length)[:, None]
    items = np.array(batch.context.items)
    items[padding] = garbage(spaces.input, int(padding.sum()))
    padded = batch._replace(context=context(items, batch.context.length))
    assert_identical(case.fit(case.fitted, padded), case.fit(case.fitted, batch))
    query = case.infer(case.fitted, padded.context, batch.target)
    assert_identical(query, case.infer(case.fitted, batch.context, batch.target))


def first_row_alone(kernel):
    """A batch whose first row has a score of 1, and whose other rows do not count."""
    mask = np.eye(ROWS, dtype=np.float32)[0]
    return random_batch(kernel, 4)._replace(mask=mask, score=np.ones(ROWS, np.float32))


@over(LONG)
def test_every_item_of_a_context_is_read(case):
    batch = first_row_alone(case.kernel)
    full = np.full(ROWS, case.kernel.context_length)
    state, _ = case.fit(case.fresh, batch._replace(context=context(batch.context.items, full)))
    answer = case.infer(state, context(batch.context.items, full), batch.target)
    for place in range(case.kernel.context_length):
        items = np.array(batch.context.items)
        items[:, place] = (items[:, place] + 1) % (case.kernel.spaces.input.size if items.ndim == 2 else 10)
        other = case.infer(state, context(items, full), batch.target)
        assert np.asarray(answer.score)[0] != np.asarray(other.score)[0], place


@over(ALL)
def test_every_part_of_a_target_is_read(case):
    batch = first_row_alone(case.kernel)
    state, _ = case.fit(case.fresh, batch)
    answer = case.infer(state, batch.context, batch.target)
    if isinstance(case.kernel.spaces.target, Discrete):
        others = [(np.asarray(batch.target) + 1) % np.int32(case.kernel.spaces.target.size)]
    else:
        others = list(np.asarray(batch.target)[None] + np.eye(batch.target.shape[1], dtype=np.float32)[:, None])
    for other in others:
        score = case.infer(state, batch.context, other).score
        assert np.asarray(score)[0] != np.asarray(answer.score)[0]


@over([case for case in EXACT if case.kernel.context_length > 1])
def test_an_exact_kernel_knows_a_short_context_from_a_long_one(case):
    batch = random_batch(case.kernel, 5)._replace(score=np.ones(ROWS, np.float32))
    short = context(batch.context.items, np.ones(ROWS))
    state, _ = case.fit(case.fresh, batch._replace(context=short))
    assert np.all(np.asarray(case.infer(state, short, batch.target).score) == 1)
    for length in range(2, case.kernel.context_length + 1):
        long = context(batch.context.items, np.full(ROWS, length))
        assert np.all(np.asarray(case.infer(state, long, batch.target).score) == -np.inf)


# Shapes


@pytest.mark.parametrize("part", ["context.items", "context.length", "target", "value", "score", "mask"])
@over([EXACT[0], EXACT[2], GRADIENT[0], GRADIENT[-1]])
def test_a_batch_of_a_wrong_shape_is_refused_with_one_line_that_names_it(case, part):
    batch = jax.tree.map(np.asarray, random_batch(case.kernel, 0))
    longer = {
        "context.items": batch._replace(
            context=context(np.concatenate([batch.context.items] * 2, axis=1), batch.context.length)
        ),
        "context.length": batch._replace(context=context(batch.context.items, [1])),
        "target": batch._replace(target=batch.target[:, None]),
        "value": batch._replace(value=batch.value[:1]),
        "score": batch._replace(score=batch.score[:1]),
        "mask": batch._replace(mask=batch.mask[:1]),
    }[part]
    with pytest.raises(ValueError, match=part) as refusal:
        jax.eval_shape(case.kernel.fit, case.fresh, longer)
    assert "\n" not in str(refusal.value)
    if part in ("context.items", "context.length", "target"):
        with pytest.raises(ValueError, match=part):
            jax.eval_shape(case.kernel.infer, case.fresh, longer.context, longer.target)
