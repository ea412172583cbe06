"""The linear kernel against a reference in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels import reference
from tests.kernels.cases import draw_values, make_context, make_transition, random_state
from tests.kernels.quick import jit

from thinking import kernels
from thinking.kernels import Box, Discrete, score_access, value_access

ROWS, LENGTH, SLOTS = 8, 3, 4
SETTINGS = {
    "indices to vectors, value access": (Discrete(3), Box(2), Box(4), value_access(shortfall_weight=0.3)),
    "vectors to indices, score access": (Box(2), Discrete(5), Discrete(3), score_access(shortfall_weight=0.3)),
}

for_each_setting = pytest.mark.parametrize("setting", SETTINGS)


@functools.cache
def fit_example(setting):
    """A kernel trained by SGD of rate 1, a batch of unequal masks, and the results of `infer` and `fit`."""
    input_space, value_space, target_space, learning = SETTINGS[setting]
    kernel = kernels.linear(
        input=input_space,
        value=value_space,
        target=target_space,
        optimizer=optax.sgd(1.0),
        context_length=LENGTH,
        num_cells=6,
        num_slots=SLOTS,
        learning=learning,
    )
    rng = np.random.default_rng(0)
    batch = make_transition(
        draw_values(rng, input_space, ROWS, LENGTH),
        rng.integers(1, LENGTH + 1, ROWS),
        draw_values(rng, target_space, ROWS),
        draw_values(rng, value_space, ROWS),
        np.linspace(0, 1, ROWS),
        [1, 0.5, 2, 0, 1, 1, 0.25, 3],
    )
    state = random_state(kernel)
    state.train_state.params["scores"] *= 4
    hypothesis = jit(kernel.infer)(state, batch.context, batch.target)
    return kernel, learning, batch, state, hypothesis, *jit(kernel.fit)(state, batch)


def to_float64(params):
    return jax.tree.map(np.float64, params)


@for_each_setting
def test_infer_matches_numpy_reference(setting):
    kernel, _, batch, state, hypothesis, *_ = fit_example(setting)
    numpy_batch = jax.tree.map(np.asarray, batch)
    for row in range(ROWS):
        query = (numpy_batch.context.items[row], numpy_batch.context.length[row], numpy_batch.target[row])
        values, scores = reference.compute_linear_slots(to_float64(state.train_state.params), kernel.spaces, *query)
        best = values[np.argmax(scores)]
        best = np.argmax(best) if isinstance(kernel.spaces.value, Discrete) else best
        np.testing.assert_allclose(hypothesis.value[row], best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(hypothesis.score[row], reference.sigmoid(np.max(scores)), rtol=1e-4)


@for_each_setting
def test_loss_matches_numpy_reference(setting):
    kernel, learning, batch, state, _, _, metrics = fit_example(setting)
    expected = reference.compute_linear_loss(learning, to_float64(state.train_state.params), kernel.spaces, batch)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4)


@for_each_setting
def test_fit_is_one_optimizer_step(setting):
    kernel, learning, batch, state, _, fitted_state, _ = fit_example(setting)
    before, after = to_float64(state.train_state.params), to_float64(fitted_state.train_state.params)
    rng, epsilon = np.random.default_rng(1), 1e-6
    for name in before:
        direction = rng.normal(size=before[name].shape)

        def loss(step, name=name, direction=direction):
            shifted = {**before, name: before[name] + step * direction}
            return reference.compute_linear_loss(learning, shifted, kernel.spaces, batch)["loss"]

        gradient = (loss(epsilon) - loss(-epsilon)) / (2 * epsilon)
        np.testing.assert_allclose(np.sum((before[name] - after[name]) * direction), gradient, rtol=2e-3, atol=2e-4)


def test_short_contexts_give_equal_hypotheses_in_longer_kernels():
    spaces = {name: Box(2) for name in ("input", "value", "target")}
    build = functools.partial(kernels.linear, **spaces)
    short_kernel, long_kernel = (
        build(optimizer=optax.sgd(0.1), num_cells=6, num_slots=3, context_length=length) for length in (2, 5)
    )
    rng = np.random.default_rng(0)
    items, target = rng.normal(size=(4, 5, 2)), jnp.float32(rng.normal(size=(4, 2)))
    state = random_state(long_kernel)
    # The newest items are last in both kernels.
    params = state.train_state.params
    params = {**params, "context_keys": params["context_keys"][3:]}
    short_state = state._replace(train_state=state.train_state._replace(params=params))
    long_hypothesis = jit(long_kernel.infer)(state, make_context(items, [2, 2, 1, 1]), target)
    short_hypothesis = jit(short_kernel.infer)(short_state, make_context(items[:, 3:], [2, 2, 1, 1]), target)
    np.testing.assert_allclose(long_hypothesis.value, short_hypothesis.value, rtol=1e-5)
    np.testing.assert_allclose(long_hypothesis.score, short_hypothesis.score, rtol=1e-5)


def test_one_cell_and_one_slot_are_enough():
    spaces = {name: Discrete(2) for name in ("input", "value", "target")}
    kernel = kernels.linear(**spaces, optimizer=optax.sgd(0.1), num_cells=1, num_slots=1)
    assert jax.eval_shape(kernel.init, jax.random.key(0)).train_state.params["scores"].shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cells": 0}, "num_cells 0 .*at least 1"),
        ({"num_slots": -2}, "num_slots -2 .*at least 1"),
        ({"context_length": 0}, "context_length 0.*at least 1"),
    ],
)
def test_sizes_out_of_range_are_rejected(options, message):
    spaces = {name: Discrete(2) for name in ("input", "value", "target")}
    with pytest.raises(ValueError, match=message) as error:
        kernels.linear(**spaces, optimizer=optax.sgd(0.1), **options)
    assert "\n" not in str(error.value)
