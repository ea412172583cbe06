"""The one step of an optimizer, against plain optax, and the state of a training that does not have everything."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thinking.train_state import RunnerState, apply_gradients, init_train_state


def test_steps_are_those_of_plain_optax():
    numbers = np.random.default_rng(0)
    shapes = {"weights": (3, 2), "bias": (2,)}
    params, *gradients = (
        {name: jnp.float32(numbers.normal(size=shape)) for name, shape in shapes.items()} for _ in range(4)
    )
    optimizer = optax.adamw(optax.linear_schedule(0.1, 0.2, 3))  # needs the parameters, counts and remembers
    state = init_train_state(params, optimizer)
    opt_state = optimizer.init(params)
    for gradient in gradients:
        state = apply_gradients(state, optimizer, gradient)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = jax.tree.map(jnp.add, params, updates)
    jax.tree.map(np.testing.assert_array_equal, state.params, params)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, opt_state)


def test_what_a_training_does_not_have_adds_no_leaf():
    train_state, key = init_train_state(jnp.ones(2), optax.sgd(0.1)), jax.random.key(0)
    assert len(jax.tree.leaves(RunnerState(train_state, key))) == 2
    with_more = RunnerState(train_state, key, sampler=jnp.int32(3), reference=jnp.ones(2), env=jnp.zeros(4))
    assert len(jax.tree.leaves(with_more)) == 5
