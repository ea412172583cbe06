"""A gated recurrent unit: a nonlinear recurrence, which can follow any finite automaton (Cho et al. 2014).

Axes: B rows, C tokens, D width.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.types import Array


def gru() -> Mixer:
    """A gated recurrent unit; its state is [B, D] float32."""
    return Mixer("gru", _GRU, lambda config, rows: jnp.zeros((rows, config.width), jnp.float32))


class _GRU(nnx.Module):
    """The reset gate acts after the product, as in cuDNN, so that all products with the state are one."""

    def __init__(self, config: BlockConfig, rngs: nnx.Rngs) -> None:
        width = config.width
        self.in_proj = linear_layer(width, 3 * width, config, rngs, bias=True)
        orthogonal = nnx.initializers.orthogonal()
        gates = [orthogonal(rngs.params(), (width, width)) for _ in range(3)]
        self.state_proj = nnx.Param(jnp.concatenate(gates, axis=1))
        self.state_bias = nnx.Param(jnp.zeros(width))
        self.out_proj = linear_layer(width, width, config, rngs)

    def __call__(self, x_BxCxD: Array, positions: Array, inputs: RecurrentInputs) -> tuple[Array, RecurrentOutput]:
        del positions
        kernel, bias = self.state_proj[...], self.state_bias[...][None]

        def advance(state: Array, token: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            gates, is_start, is_valid = token
            before = jnp.where(is_start[:, None], 0.0, state)
            reset_x, update_x, candidate_x = jnp.split(gates, 3, axis=-1)
            reset_h, update_h, candidate_h = jnp.split(before @ kernel, 3, axis=-1)
            update = jax.nn.sigmoid(update_x + update_h)
            candidate = jnp.tanh(candidate_x + jax.nn.sigmoid(reset_x + reset_h) * (candidate_h + bias))
            after = update * before + (1 - update) * candidate
            state = jnp.where(is_valid[:, None], after, state)
            return state, state

        gates = self.in_proj(x_BxCxD).astype(jnp.float32).swapaxes(0, 1)
        state, states = jax.lax.scan(advance, inputs.state, (gates, inputs.is_start.T, inputs.is_valid.T))
        return self.out_proj(states.swapaxes(0, 1).astype(x_BxCxD.dtype)), RecurrentOutput(state)
