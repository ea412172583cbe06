"""A gated recurrent unit: a nonlinear recurrence, which can follow any finite automaton (Cho et al. 2014).

Axes: B rows, C tokens, D width.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.types import Array


def gru(state_noise: float = 0.0) -> Mixer:
    """A gated recurrent unit; its state is [B, D] float32.

    Noise on the state in training teaches it states that correct small errors, so that it can follow an automaton over
    more symbols than in training (noise on recurrent states: Jim, Giles & Horne 1996).

    Args:
        state_noise: standard deviation of the Gaussian noise that is added after each token, where `decoder.apply` is
            given a key, times its `noise_scale`. Kernels and recurrent policies give none.

    Raises:
        ValueError: if it is negative.
    """
    if state_noise < 0:
        raise ValueError(f"gru: state_noise {state_noise} is out of range; give 0 or more")
    build = functools.partial(_GRU, state_noise)
    return Mixer("gru", build, lambda config, rows: jnp.zeros((rows, config.width), jnp.float32))


class _GRU(nnx.Module):
    """The reset gate acts after the product, as in cuDNN, so that all products with the state are one."""

    def __init__(self, state_noise: float, config: BlockConfig, rngs: nnx.Rngs) -> None:
        width, self.state_noise = config.width, state_noise
        self.in_proj = linear_layer(width, 3 * width, config, rngs, bias=True)
        orthogonal = nnx.initializers.orthogonal()
        gates = [orthogonal(rngs.params(), (width, width)) for _ in range(3)]
        self.state_proj = nnx.Param(jnp.concatenate(gates, axis=1))
        self.state_bias = nnx.Param(jnp.zeros(width))
        self.out_proj = linear_layer(width, width, config, rngs)

    def __call__(self, x_BxCxD: Array, positions: Array, inputs: RecurrentInputs) -> tuple[Array, RecurrentOutput]:
        del positions
        kernel, bias = self.state_proj[...], self.state_bias[...][None]

        def advance(state: Array, token: tuple[Array, Array, Array, Array | None]) -> tuple[Array, Array]:
            gates, is_start, is_valid, noise = token
            before = jnp.where(is_start[:, None], 0.0, state)
            reset_x, update_x, candidate_x = jnp.split(gates, 3, axis=-1)
            reset_h, update_h, candidate_h = jnp.split(before @ kernel, 3, axis=-1)
            update = jax.nn.sigmoid(update_x + update_h)
            candidate = jnp.tanh(candidate_x + jax.nn.sigmoid(reset_x + reset_h) * (candidate_h + bias))
            after = update * before + (1 - update) * candidate
            if noise is not None:
                after = after + noise
            state = jnp.where(is_valid[:, None], after, state)
            return state, state

        gates = self.in_proj(x_BxCxD).astype(jnp.float32).swapaxes(0, 1)
        noise = None
        if inputs.key is not None and self.state_noise > 0:
            deviation = self.state_noise * inputs.noise_scale
            noise = deviation * jax.random.normal(inputs.key, (*gates.shape[:2], bias.shape[1]))
        state, states = jax.lax.scan(advance, inputs.state, (gates, inputs.is_start.T, inputs.is_valid.T, noise))
        return self.out_proj(states.swapaxes(0, 1).astype(x_BxCxD.dtype)), RecurrentOutput(state)
