"""No mixing: a linear layer of each token by itself. A network of it remembers nothing, which makes it a control.

Axes: B rows, C tokens, D width.
"""

from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.networks.mixers.mixer import Mixer, RecurrentInputs, RecurrentOutput
from thinking.types import Array


def pointwise() -> Mixer:
    """A linear layer of each token; its state is ()."""
    return Mixer("pointwise", _Pointwise, lambda config, rows: ())


class _Pointwise(nnx.Module):
    def __init__(self, config: BlockConfig, rngs: nnx.Rngs) -> None:
        self.proj = linear_layer(config.width, config.width, config, rngs, bias=True)

    def __call__(self, x_BxCxD: Array, positions: Array, inputs: RecurrentInputs) -> tuple[Array, RecurrentOutput]:
        del positions, inputs
        return self.proj(x_BxCxD), RecurrentOutput(())
