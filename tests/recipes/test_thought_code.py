"""Codes that are invented: a number through tokens and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thinking.recipes.thought_code.autoencoder import autoencoder, encode_all, make_autoencoder_step
from thinking.train_state import init_train_state


def taught(choice, steps, values=9, thoughts=2, kinds=3):
    model = autoencoder(num_values=values, length=thoughts, num_tokens=kinds, width=32, gradient=choice)
    optimizer = optax.adam(0.01)
    params = jax.jit(model.init)(jax.random.key(0))
    step = make_autoencoder_step(model, optimizer, num_values=values, batch_size=64, key=jax.random.key(1))

    @jax.jit
    def learn(params):
        return jax.lax.scan(step, init_train_state(params, optimizer), jnp.arange(steps))

    train_state, metrics = learn(params)
    return model, train_state.params, metrics


def test_a_code_is_found_that_tells_more_than_one_token_could():
    model, params, metrics = taught("gumbel", 600)
    tokens, told = jax.jit(lambda params: encode_all(model, params, 9))(params)
    assert tokens.shape == (9, 2)
    assert len({tuple(code) for code in np.asarray(tokens).tolist()}) >= 5
    assert np.mean(np.asarray(told) == np.arange(9)) >= 5 / 9
    assert float(metrics["loss"][-1]) < float(metrics["loss"][0])


def test_numbers_of_one_code_are_told_as_one():
    model, params, _ = taught("straight_through", 3, values=20, thoughts=1)
    tokens, told = map(np.asarray, jax.jit(lambda params: encode_all(model, params, 20))(params))
    for token in range(3):
        assert len(np.unique(told[tokens[:, 0] == token])) <= 1
