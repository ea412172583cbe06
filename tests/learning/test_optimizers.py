"""AdamW against NumPy, and schedules at points computed by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.kernels.quick import jit

from thinking.learning.optimizers import adamw, warmup_cosine, warmup_stable_decay
from thinking.train_state import apply_gradients, init_train_state

SHAPES = {"embedding": (4, 3), "scale": (3,), "bias": (), "heads": (2, 3, 2)}


def random_tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: scale * rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def global_norm(tree):
    return np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in tree.values()))


def adamw_in_numpy(params, gradients, rates, weight_decay, max_norm, b1, b2):
    params = {name: leaf.astype(np.float64) for name, leaf in params.items()}
    mean, square = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)
    for step_number, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        clip_factor = min(1.0, max_norm / global_norm(gradient))
        for name, leaf in params.items():
            clipped = clip_factor * gradient[name].astype(np.float64)
            mean[name] = b1 * mean[name] + (1 - b1) * clipped
            square[name] = b2 * square[name] + (1 - b2) * clipped**2
            update = mean[name] / (1 - b1**step_number) / (np.sqrt(square[name] / (1 - b2**step_number)) + 1e-8)
            params[name] = leaf - rate * (update + (weight_decay * leaf if name in ("embedding", "heads") else 0.0))
    return params


def test_adamw_clips_the_global_norm_and_decays_matrices_alone():
    # The first gradients are clipped and the last is not; the rate changes from step to step.
    gradients = [random_tree(1, 10.0), random_tree(2, 3.0), random_tree(3, 0.05)]
    assert [global_norm(gradient) > 1.5 for gradient in gradients] == [True, True, False]
    schedule = optax.linear_schedule(0.02, 0.05, 3)
    optimizer = adamw(schedule, weight_decay=0.3, max_gradient_norm=1.5, b1=0.8, b2=0.9)
    params = jax.tree.map(jnp.asarray, random_tree(0))
    train_state = init_train_state(params, optimizer)
    step = jit(lambda train_state, gradient: apply_gradients(train_state, optimizer, gradient))
    for gradient in gradients:
        train_state = step(train_state, gradient)
    expected = adamw_in_numpy(random_tree(0), gradients, [0.02, 0.03, 0.04], 0.3, 1.5, 0.8, 0.9)
    for name, leaf in expected.items():
        np.testing.assert_allclose(train_state.params[name], leaf, rtol=1e-4, atol=1e-6)


def test_adamw_with_zero_gradients_decays_matrices_alone():
    optimizer = adamw(0.5)
    params = jax.tree.map(jnp.asarray, random_tree(0))
    updates = jit(lambda params: optimizer.update(optax.tree.zeros_like(params), optimizer.init(params), params)[0])(
        params
    )
    for name, leaf in params.items():
        np.testing.assert_allclose(updates[name], -0.5 * 0.1 * leaf if leaf.ndim > 1 else 0 * leaf, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            # Half a cosine from 2 to 0.2 over 100 steps, 1.1 in the middle.
            warmup_cosine(2.0, num_steps=110, warmup_steps=10),
            {0: 0, 1: 0.2, 5: 1, 10: 2, 60: 1.1, 35: 1.1 + 0.9 * 0.5**0.5, 110: 0.2, 1000: 0.2},
        ),
        (warmup_cosine(1.0, num_steps=4, warmup_steps=0, final_fraction=0.0), {0: 1, 2: 0.5, 4: 0}),
        (
            warmup_stable_decay(3.0, num_steps=100, warmup_steps=30, decay_steps=20),
            {0: 0, 10: 1, 29: 2.9, 30: 3, 55: 3, 80: 3, 90: 1.5, 99: 0.15, 100: 0, 1000: 0},
        ),
        (warmup_stable_decay(3.0, num_steps=5, warmup_steps=0, decay_steps=0), {0: 3, 4: 3, 5: 3}),
        (warmup_stable_decay(3.0, num_steps=6, warmup_steps=3, decay_steps=3), {0: 0, 2: 2, 3: 3, 4: 2, 6: 0}),
    ],
)
def test_schedules_match_values_computed_by_hand(schedule, expected):
    actual = [float(schedule(jnp.int32(step))) for step in expected]
    np.testing.assert_allclose(actual, list(expected.values()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adamw(-0.1), "learning_rate -0.1 is out of range; give more than 0"),
        (lambda: adamw(0.1, max_gradient_norm=0.0), "max_gradient_norm 0.0 is out of range"),
        (lambda: adamw(0.1, weight_decay=-1.0), "weight_decay -1.0 is out of range"),
        (lambda: adamw(0.1, b2=1.0), "b2 1.0 is out of range; give 0 to below 1"),
        (lambda: warmup_cosine(-1.0, 10, 2), "peak -1.0 is out of range"),
        (lambda: warmup_cosine(1.0, 10, 10), "warmup_steps 10 is out of range; give 0 to below the 10 steps"),
        (lambda: warmup_cosine(1.0, 10, 2, final_fraction=1.5), "final_fraction 1.5 is out of range"),
        (lambda: warmup_stable_decay(0.0, 10, 2, 2), "peak 0.0 is out of range"),
        (lambda: warmup_stable_decay(1.0, 10, -1, 2), "warmup_steps -1 is out of range"),
        (lambda: warmup_stable_decay(1.0, 10, 6, 5), "warmup_steps 6 and decay_steps 5 take longer than the 10 steps"),
    ],
)
def test_arguments_out_of_range_are_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_default_arguments_match_the_docs():
    defaults = {name: parameter.default for name, parameter in inspect.signature(adamw).parameters.items()}
    expected = {"weight_decay": 0.1, "max_gradient_norm": 1.0, "b1": 0.9, "b2": 0.95}
    assert {name: defaults[name] for name in expected} == expected
    assert inspect.signature(warmup_cosine).parameters["final_fraction"].default == 0.1
