"""The transformer kernel: what it may see, what positions change, and what dropout does."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels.cases import any_state, assert_identical, context, transition
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Discrete
from thinking.networks import positions

LENGTH, ROWS = 5, 6


@functools.cache
def tiny(length=LENGTH, **options):
    """A small kernel; all of them have parameters of the same shapes."""
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
    return any_state(tiny()[0])


POSITIONS = {
    "none": {"position": positions.none()},
    "sinusoidal": {"position": positions.sinusoidal()},
    "rotary": {},  # as it is by default
    "location": {"position": positions.location()},
}


def questions(*changes):
    """The same full context in every row, but each change (place, by how much) made to a row of its own."""
    items = np.tile(np.random.default_rng(0).normal(size=(LENGTH, 2)), (ROWS, 1, 1))
    for row, (place, shift) in enumerate(changes, start=1):
        items[row, place] += shift
    return context(jnp.float32(items), np.full(ROWS, LENGTH)), jnp.zeros(ROWS, jnp.int32)


def differs(hypothesis):
    """Which rows are answered otherwise than the first."""
    return np.any(np.abs(np.asarray(hypothesis.value) - np.asarray(hypothesis.value[:1])) > 1e-4, axis=1)


# What an item may see


@pytest.mark.parametrize(("options", "window"), [({"window": 2}, 2), ({}, LENGTH)], ids=["window 2", "no window"])
def test_one_block_sees_what_lies_within_its_window_and_nothing_older(state, options, window):
    _, infer = tiny(**options)
    ages = np.arange(LENGTH)
    hypothesis = infer(state, *questions(*[(LENGTH - 1 - age, 1.0) for age in ages]))
    assert list(differs(hypothesis)) == [False, *(ages < window)]


def test_a_short_context_in_a_long_kernel_gives_what_it_gives_in_a_short_one(state):
    query, target = questions((3, 1.0), (4, 1.0))
    lengths = jnp.asarray([2, 2, 2, 1, 1, 1])
    one = tiny()[1](state, context(query.items, lengths), target)
    other = tiny(length=2)[1](state, context(query.items[:, 3:], lengths), target)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-4, atol=1e-5)


# Positions


@pytest.mark.parametrize(
    ("name", "ordered"), [("none", False), ("location", False), ("sinusoidal", True), ("rotary", True)]
)
def test_the_order_of_the_older_items_counts_only_where_positions_tell_when(state, name, ordered):
    _, infer = tiny(**POSITIONS[name])
    query, target = questions()
    items = np.array(query.items)
    items[1, :-1] = items[1, [2, 0, 3, 1]]
    assert list(differs(infer(state, context(items, query.length), target))) == [False, ordered, *[False] * 4]


def test_each_position_gives_another_answer_to_the_same_question(state):
    query, target = questions()
    answers = [tiny(**position)[1](state, query, target).value[0] for position in POSITIONS.values()]
    for one, other in itertools.combinations(answers, 2):
        assert np.max(np.abs(np.asarray(one - other))) > 1e-3


# Dropout


@pytest.fixture(scope="module")
def dropping():
    kernel, infer = tiny(dropout=0.5)
    return jit(kernel.fit), infer


@pytest.fixture(scope="module")
def batch():
    query, target = questions((2, 1.0), (4, -1.0))
    value = np.random.default_rng(1).normal(size=(ROWS, 3))
    return transition(query.items, query.length, target, jnp.float32(value), np.full(ROWS, 0.5))


def test_a_fit_drops_by_its_key_and_takes_another_key_the_next_time(state, dropping, batch):
    fit, _ = dropping
    fitted, metrics = fit(state, batch)
    assert_identical(fit(state, batch), (fitted, metrics))
    assert fit(state._replace(key=jax.random.key(9)), batch)[1]["loss"] != metrics["loss"]
    assert not np.array_equal(jax.random.key_data(fitted.key), jax.random.key_data(state.key))


def test_an_answer_drops_nothing(state, dropping, batch):
    _, infer = dropping
    answer = infer(state, batch.context, batch.target)
    assert_identical(infer(state._replace(key=jax.random.key(9)), batch.context, batch.target), answer)
    assert_identical(tiny()[1](state, batch.context, batch.target), answer)


# Parameters


def test_one_joint_head_says_the_whole_value_whatever_its_dimensions():
    def shapes(value):
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

    one, many = shapes(Box(1)), shapes(Box(50))
    assert len(one) == len(many)
    assert set(many) - set(one) == {(4 * 50,), (8, 4 * 50)}  # a bias and a matrix for all slots and dimensions


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width 0 .*at least 1"),
        ({"num_blocks": 0}, "num_blocks 0 .*at least 1"),
        ({"num_slots": 0}, "num_slots 0 .*at least 1"),
        ({"window": 0}, "window 0 .*at least 1"),
        ({"num_heads": 3}, "num_heads 3 .*width 8.*divisor"),
        ({"num_heads": 0}, "num_heads 0 .*width 8.*divisor"),
        ({"dropout": 1.0}, "dropout 1.0.*0 to below 1"),
        ({"dropout": -0.1}, "dropout -0.1.*0 to below 1"),
        ({"length": 0}, "context_length 0.*at least 1"),
        ({"num_heads": 8}, "1 dimensions.*even"),  # of a head, which the rotary encoding takes in pairs
        ({"width": 9, "num_heads": 3, **POSITIONS["sinusoidal"]}, "9 dimensions.*even"),
        ({"width": 9, "num_heads": 3, **POSITIONS["location"]}, "9 dimensions.*even"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_bad_option_is_refused_when_the_kernel_is_built_with_one_line_that_names_it(options, message):
    with pytest.raises(ValueError, match=message) as refusal:
        tiny(**options)
    assert "\n" not in str(refusal.value)
