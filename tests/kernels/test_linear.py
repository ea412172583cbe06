"""The linear kernel against its formula in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels import reference
from tests.kernels.cases import any_state, context, draw, transition
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Discrete, score_access, value_access

ROWS, LENGTH, SLOTS = 8, 3, 4
SETTINGS = {
    "indices to vectors, value access": (Discrete(3), Box(2), Box(4), value_access(shortfall_weight=0.3)),
    "vectors to indices, score access": (Box(2), Discrete(5), Discrete(3), score_access(shortfall_weight=0.3)),
}

each_setting = pytest.mark.parametrize("setting", SETTINGS)


@functools.cache
def problem(setting):
    """A kernel that steps down its gradient by 1, an uneven batch, and what comes of them."""
    input, value, target, learning = SETTINGS[setting]
    kernel = kernels.linear(
        input=input,
        value=value,
        target=target,
        optimizer=optax.sgd(1.0),
        context_length=LENGTH,
        num_cells=6,
        num_slots=SLOTS,
        learning=learning,
    )
    random = np.random.default_rng(0)
    batch = transition(
        draw(random, input, ROWS, LENGTH),
        random.integers(1, LENGTH + 1, ROWS),
        draw(random, target, ROWS),
        draw(random, value, ROWS),
        np.linspace(0, 1, ROWS),
        [1, 0.5, 2, 0, 1, 1, 0.25, 3],
    )
    state = any_state(kernel)
    state.train_state.params["scores"] *= 4
    hypothesis = jit(kernel.infer)(state, batch.context, batch.target)
    return kernel, learning, batch, state, hypothesis, *jit(kernel.fit)(state, batch)


def doubles(params):
    return jax.tree.map(np.float64, params)


@each_setting
def test_an_answer_is_the_best_slot_of_the_cells_mixed_by_their_match(setting):
    kernel, _, batch, state, hypothesis, *_ = problem(setting)
    query = jax.tree.map(np.asarray, batch)
    for row in range(ROWS):
        question = (query.context.items[row], query.context.length[row], query.target[row])
        values, scores = reference.linear_slots(doubles(state.train_state.params), kernel.spaces, *question)
        best = values[np.argmax(scores)]
        best = np.argmax(best) if isinstance(kernel.spaces.value, Discrete) else best
        np.testing.assert_allclose(hypothesis.value[row], best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(hypothesis.score[row], reference.sigmoid(np.max(scores)), rtol=1e-4)


@each_setting
def test_the_loss_is_the_mean_of_all_rows_weighted_by_their_mask(setting):
    kernel, learning, batch, state, _, _, metrics = problem(setting)
    expected = reference.linear_loss(learning, doubles(state.train_state.params), kernel.spaces, batch)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4)


@each_setting
def test_a_fit_is_one_optimizer_step_on_that_loss(setting):
    kernel, learning, batch, state, _, fitted, _ = problem(setting)
    before, after = doubles(state.train_state.params), doubles(fitted.train_state.params)
    random, small = np.random.default_rng(1), 1e-6
    for name in before:
        direction = random.normal(size=before[name].shape)

        def loss(step, name=name, direction=direction):
            moved = {**before, name: before[name] + step * direction}
            return reference.linear_loss(learning, moved, kernel.spaces, batch)["loss"]

        gradient = (loss(small) - loss(-small)) / (2 * small)
        np.testing.assert_allclose(np.sum((before[name] - after[name]) * direction), gradient, rtol=2e-3, atol=2e-4)


def test_a_short_context_in_a_long_kernel_gives_what_it_gives_in_a_short_one():
    spaces = {name: Box(2) for name in ("input", "value", "target")}
    build = functools.partial(kernels.linear, **spaces)
    short, long = (
        build(optimizer=optax.sgd(0.1), num_cells=6, num_slots=3, context_length=length) for length in (2, 5)
    )
    random = np.random.default_rng(0)
    items, target = random.normal(size=(4, 5, 2)), jnp.float32(random.normal(size=(4, 2)))
    state = any_state(long)
    # The newest items of both kernels stand last.
    params = state.train_state.params
    params = {**params, "context_keys": params["context_keys"][3:]}
    shortened = state._replace(train_state=state.train_state._replace(params=params))
    one = jit(long.infer)(state, context(items, [2, 2, 1, 1]), target)
    other = jit(short.infer)(shortened, context(items[:, 3:], [2, 2, 1, 1]), target)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-5)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cells": 0}, "num_cells 0 .*at least 1"),
        ({"num_slots": -2}, "num_slots -2 .*at least 1"),
        ({"context_length": 0}, "context_length 0.*at least 1"),
    ],
)
def test_a_bad_size_is_refused_with_one_line_that_names_it_and_what_is_allowed(options, message):
    spaces = {name: Discrete(2) for name in ("input", "value", "target")}
    with pytest.raises(ValueError, match=message) as refusal:
        kernels.linear(**spaces, optimizer=optax.sgd(0.1), **options)
    assert "\n" not in str(refusal.value)
