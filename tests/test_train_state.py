"""An optimizer step against plain optax, and runner states with unused fields."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thinking.train_state import RunnerState, TrainState, apply_gradients, drop_training, init_train_state


def test_apply_gradients_equals_optax():
    rng = np.random.default_rng(0)
    shapes = {"weights": (3, 2), "bias": (2,)}
    params, *all_grads = (
        {name: jnp.float32(rng.normal(size=shape)) for name, shape in shapes.items()} for _ in range(4)
    )
    optimizer = optax.adamw(optax.linear_schedule(0.1, 0.2, 3))  # uses the parameters and has state
    state = init_train_state(params, optimizer)
    opt_state = optimizer.init(params)
    for grads in all_grads:
        state = apply_gradients(state, optimizer, grads)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = jax.tree.map(jnp.add, params, updates)
    jax.tree.map(np.testing.assert_array_equal, state.params, params)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, opt_state)


def test_unused_runner_state_fields_add_no_leaves():
    train_state, key = init_train_state(jnp.ones(2), optax.sgd(0.1)), jax.random.key(0)
    assert len(jax.tree.leaves(RunnerState(train_state, key))) == 2
    full_state = RunnerState(train_state, key, sampler=jnp.int32(3), reference=jnp.ones(2), env=jnp.zeros(4))
    assert len(jax.tree.leaves(full_state)) == 5


def test_what_training_alone_needs_is_dropped_anywhere_in_a_tree():
    params = {"weights": jnp.ones(2)}
    state = RunnerState(init_train_state(params, optax.adam(0.1)), jax.random.key(0), reference=params, env=jnp.ones(4))
    dropped = drop_training({"layers": (state, jnp.zeros(3)), "state": state})
    kept = RunnerState(TrainState(params, ()), ())
    expected = {"layers": (kept, jnp.zeros(3)), "state": kept}
    assert jax.tree.structure(dropped) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, dropped, expected)
