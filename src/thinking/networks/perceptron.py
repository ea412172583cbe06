"""A multi-layer perceptron.

Axes: B rows, D dimensions of the input.
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from thinking.types import Array


class Perceptron(nnx.Module):
    """Linear layers with tanh between them, orthogonal initialization (Andrychowicz et al. 2021)."""

    def __init__(self, widths: Sequence[int], output_gain: float, rngs: nnx.Rngs) -> None:
        """Layers of the given widths, input and output included; `output_gain` scales the last one's initialization."""
        gains = [2**0.5] * (len(widths) - 2) + [output_gain]
        self.layers = nnx.List(
            [
                nnx.Linear(in_features, out_features, kernel_init=nnx.initializers.orthogonal(gain), rngs=rngs)
                for (in_features, out_features), gain in zip(itertools.pairwise(widths), gains, strict=True)
            ]
        )

    def __call__(self, x: Array) -> Array:
        """[B, widths[-1]] of [B, widths[0]]."""
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)
