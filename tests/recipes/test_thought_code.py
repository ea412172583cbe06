"""Codes that are invented: a number through tokens and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thinking.recipes.thought_code.autoencoder import code_of, coder, coding_step
from thinking.train_state import init_train_state


def taught(choice, steps, values=9, thoughts=2, kinds=3):
    model = coder(values=values, thoughts=thoughts, kinds=kinds, width=32, choice=choice)
    optimizer = optax.adam(0.01)
    params = jax.jit(model.init)(jax.random.key(0))
    step = coding_step(model, optimizer, values=values, batch=64, key=jax.random.key(1))

    @jax.jit
    def learn(params):
        return jax.lax.scan(step, init_train_state(params, optimizer), jnp.arange(steps))

    train_state, metrics = learn(params)
    return model, train_state.params, metrics


def test_a_code_is_found_that_tells_more_than_one_token_could():
    model, params, metrics = taught("gumbel", 600)
    tokens, told = jax.jit(lambda params: code_of(model, params, 9))(params)
    assert tokens.shape == (9, 2)
    assert len({tuple(code) for code in np.asarray(tokens).tolist()}) >= 5
    assert np.mean(np.asarray(told) == np.arange(9)) >= 5 / 9
    assert float(metrics["loss"][-1]) < float(metrics["loss"][0])


def test_numbers_of_one_code_are_told_as_one():
    model, params, _ = taught("straight_through", 3, values=20, thoughts=1)
    tokens, told = map(np.asarray, jax.jit(lambda params: code_of(model, params, 20))(params))
    for token in range(3):
        assert len(np.unique(told[tokens[:, 0] == token])) <= 1
