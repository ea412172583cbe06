"""Learned codes: an autoencoder of numbers through discrete tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from thinking.recipes.thought_code.autoencoder import autoencoder, encode_all, make_autoencoder_step
from thinking.train_state import init_train_state


def train_autoencoder(gradient, num_steps, num_values=9, length=2, num_tokens=3):
    model = autoencoder(num_values=num_values, length=length, num_tokens=num_tokens, width=32, gradient=gradient)
    optimizer = optax.adam(0.01)
    params = jax.jit(model.init)(jax.random.key(0))
    step = make_autoencoder_step(model, optimizer, num_values=num_values, batch_size=64, key=jax.random.key(1))

    @jax.jit
    def run_training(params):
        return jax.lax.scan(step, init_train_state(params, optimizer), jnp.arange(num_steps))

    train_state, metrics = run_training(params)
    return model, train_state.params, metrics


def test_trained_code_uses_more_than_one_token():
    model, params, metrics = train_autoencoder("gumbel", 600)
    tokens, decoded_values = jax.jit(lambda params: encode_all(model, params, 9))(params)
    assert tokens.shape == (9, 2)
    assert len({tuple(code) for code in np.asarray(tokens).tolist()}) >= 5
    assert np.mean(np.asarray(decoded_values) == np.arange(9)) >= 5 / 9
    assert float(metrics["loss"][-1]) < float(metrics["loss"][0])


def test_values_with_one_code_decode_to_one_value():
    model, params, _ = train_autoencoder("straight_through", 3, num_values=20, length=1)
    tokens, decoded_values = map(np.asarray, jax.jit(lambda params: encode_all(model, params, 20))(params))
    for token in range(3):
        assert len(np.unique(decoded_values[tokens[:, 0] == token])) <= 1
