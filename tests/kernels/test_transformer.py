"""The transformer kernel: its attention window, positions and dropout."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels.cases import assert_identical, make_context, make_transition, random_state
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Discrete
from thinking.networks import positions

LENGTH, ROWS = 5, 6


@functools.cache
def make_kernel(length=LENGTH, **options):
    """A small kernel; the parameter shapes are the same for all."""
    kernel = kernels.transformer(
        input=Box(2),
        value=Box(3),
        target=Discrete(2),
        optimizer=optax.sgd(0.1),
        context_length=length,
        **{"width": 8, "num_heads": 2, "num_slots": 4, **options},
    )
    return kernel, jit(kernel.infer)


@pytest.fixture(scope="module")
def state():
    return random_state(make_kernel()[0])


POSITIONS = {
    "none": {"position": positions.none()},
    "sinusoidal": {"position": positions.sinusoidal()},
    "rotary": {},  # the default
    "location": {"position": positions.location()},
}


def make_queries(*changes):
    """The same full context in every row; each change (index, shift) is made in a row of its own."""
    items = np.tile(np.random.default_rng(0).normal(size=(LENGTH, 2)), (ROWS, 1, 1))
    for row, (index, shift) in enumerate(changes, start=1):
        items[row, index] += shift
    return make_context(jnp.float32(items), np.full(ROWS, LENGTH)), jnp.zeros(ROWS, jnp.int32)


def differs_from_first(hypothesis):
    """[ROWS] bool, whose values differ from the first row's."""
    return np.any(np.abs(np.asarray(hypothesis.value) - np.asarray(hypothesis.value[:1])) > 1e-4, axis=1)


# Attention window


@pytest.mark.parametrize(("options", "window"), [({"window": 2}, 2), ({}, LENGTH)], ids=["window 2", "no window"])
def test_one_block_attends_within_its_window_only(state, options, window):
    _, infer = make_kernel(**options)
    ages = np.arange(LENGTH)
    hypothesis = infer(state, *make_queries(*[(LENGTH - 1 - age, 1.0) for age in ages]))
    assert list(differs_from_first(hypothesis)) == [False, *(ages < window)]


def test_short_contexts_give_equal_hypotheses_in_longer_kernels(state):
    query, target = make_queries((3, 1.0), (4, 1.0))
    lengths = jnp.asarray([2, 2, 2, 1, 1, 1])
    long_hypothesis = make_kernel()[1](state, make_context(query.items, lengths), target)
    short_hypothesis = make_kernel(length=2)[1](state, make_context(query.items[:, 3:], lengths), target)
    np.testing.assert_allclose(long_hypothesis.value, short_hypothesis.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(long_hypothesis.score, short_hypothesis.score, rtol=1e-4, atol=1e-5)


# Positions


@pytest.mark.parametrize(
    ("name", "depends_on_order"), [("none", False), ("location", False), ("sinusoidal", True), ("rotary", True)]
)
def test_order_of_older_items_matters_with_positional_encodings_only(state, name, depends_on_order):
    _, infer = make_kernel(**POSITIONS[name])
    query, target = make_queries()
    items = np.array(query.items)
    items[1, :-1] = items[1, [2, 0, 3, 1]]
    assert list(differs_from_first(infer(state, make_context(items, query.length), target))) == [
        False,
        depends_on_order,
        *[False] * 4,
    ]


def test_each_position_encoding_gives_another_value(state):
    query, target = make_queries()
    values = [make_kernel(**position)[1](state, query, target).value[0] for position in POSITIONS.values()]
    for left, right in itertools.combinations(values, 2):
        assert np.max(np.abs(np.asarray(left - right))) > 1e-3


# Dropout


@pytest.fixture(scope="module")
def dropout_kernel():
    kernel, infer = make_kernel(dropout=0.5)
    return jit(kernel.fit), infer


@pytest.fixture(scope="module")
def batch():
    query, target = make_queries((2, 1.0), (4, -1.0))
    value = np.random.default_rng(1).normal(size=(ROWS, 3))
    return make_transition(query.items, query.length, target, jnp.float32(value), np.full(ROWS, 0.5))


def test_dropout_in_fit_depends_on_the_key_which_is_renewed(state, dropout_kernel, batch):
    fit, _ = dropout_kernel
    fitted_state, metrics = fit(state, batch)
    assert_identical(fit(state, batch), (fitted_state, metrics))
    assert fit(state._replace(key=jax.random.key(9)), batch)[1]["loss"] != metrics["loss"]
    assert not np.array_equal(jax.random.key_data(fitted_state.key), jax.random.key_data(state.key))


def test_infer_does_not_use_dropout(state, dropout_kernel, batch):
    _, infer = dropout_kernel
    hypothesis = infer(state, batch.context, batch.target)
    assert_identical(infer(state._replace(key=jax.random.key(9)), batch.context, batch.target), hypothesis)
    assert_identical(make_kernel()[1](state, batch.context, batch.target), hypothesis)


# Parameters


def test_one_value_head_for_all_slots_and_dimensions():
    def param_shapes(value):
        kernel = kernels.transformer(
            input=Discrete(3),
            value=value,
            target=Discrete(3),
            optimizer=optax.sgd(0.1),
            width=8,
            num_heads=2,
            num_slots=4,
        )
        state = jax.eval_shape(kernel.init, jax.random.key(0))
        return sorted(leaf.shape for leaf in jax.tree.leaves(state.train_state.params))

    shapes_of_1, shapes_of_50 = param_shapes(Box(1)), param_shapes(Box(50))
    assert len(shapes_of_1) == len(shapes_of_50)
    # One bias and one matrix for all slots and dimensions.
    assert set(shapes_of_50) - set(shapes_of_1) == {(4 * 50,), (8, 4 * 50)}


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width 0 .*at least 1"),
        ({"num_blocks": 0}, "num_blocks 0 .*at least 1"),
        ({"num_slots": 0}, "num_slots 0 .*at least 1"),
        ({"window": 0}, "size 0 .*at least 1"),
        ({"num_heads": 3}, "num_heads 3 .*width 8.*divisor"),
        ({"num_heads": 0}, "num_heads 0 .*width 8.*divisor"),
        ({"dropout": 1.0}, "dropout 1.0.*0 to below 1"),
        ({"dropout": -0.1}, "dropout -0.1.*0 to below 1"),
        ({"length": 0}, "context_length 0.*at least 1"),
        ({"num_heads": 8}, "1 dimensions.*even"),  # per head; rotary encoding needs pairs
        ({"width": 9, "num_heads": 3, **POSITIONS["sinusoidal"]}, "9 dimensions.*even"),
        ({"width": 9, "num_heads": 3, **POSITIONS["location"]}, "9 dimensions.*even"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_options_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=message) as error:
        make_kernel(**options)
    assert "\n" not in str(error.value)
