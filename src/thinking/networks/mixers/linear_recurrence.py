"""A gated diagonal linear recurrence, computed for all tokens at once (minGRU, Feng et al. 2024).

Each number of the state decays by itself, at a rate that depends on the token and not on the state (as in RG-LRU, De et
al. 2024). So a row is an associative scan. What depends on the order of tokens that do not commute is beyond it.

Axes: B rows, C tokens, D width.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.types import Array


def linear_recurrence() -> Mixer:
    """A gated diagonal linear recurrence; its state is [B, D] float32."""
    return Mixer(
        "linear_recurrence", _LinearRecurrence, lambda config, rows: jnp.zeros((rows, config.width), jnp.float32)
    )


class _LinearRecurrence(nnx.Module):
    def __init__(self, config: BlockConfig, rngs: nnx.Rngs) -> None:
        self.in_proj = linear_layer(config.width, 3 * config.width, config, rngs, bias=True)
        self.out_proj = linear_layer(config.width, config.width, config, rngs)
        # Decays of 0.5 to 0.999 at first, so that short and long memories are there to choose from.
        decay = jnp.linspace(0.5, 0.999, config.width)
        self.decay_bias = nnx.Param(jnp.log(decay / (1 - decay)))

    def __call__(self, x_BxCxD: Array, positions: Array, inputs: RecurrentInputs) -> tuple[Array, RecurrentOutput]:
        del positions
        value, decay_logit, gate = jnp.split(self.in_proj(x_BxCxD).astype(jnp.float32), 3, axis=-1)
        is_start, is_valid = inputs.is_start[..., None], inputs.is_valid[..., None]
        decay = jax.nn.sigmoid(decay_logit + self.decay_bias[...][None, None])
        added = jnp.where(is_valid, (1 - decay) * value, 0.0)
        # A token that does not count keeps what is there; a text's first token keeps nothing.
        kept = jnp.where(is_valid, jnp.where(is_start, 0.0, decay), 1.0)
        added = added.at[:, 0].add(kept[:, 0] * inputs.state)
        _, states = jax.lax.associative_scan(_compose, (kept, added), axis=1)
        output = self.out_proj((states * jax.nn.silu(gate)).astype(x_BxCxD.dtype))
        return output, RecurrentOutput(states[:, -1])


def _compose(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """The map x -> a x + b of two in a row."""
    return first[0] * second[0], second[0] * first[1] + second[1]
