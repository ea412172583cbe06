"""A transformer kernel: causal self-attention over the context, conditioned on the target, projected to slots."""

import optax

from thinking.kernels.contract import Kernel, Spaces, check_context_length
from thinking.kernels.sequence import sequence_kernel
from thinking.kernels.slots import Learning, value_access
from thinking.networks.attention.patterns import Window
from thinking.networks.blocks import BlockConfig
from thinking.networks.mixers import attention
from thinking.networks.positions import Position, rotary
from thinking.types import Space


def transformer(
    *,
    input: Space,
    value: Space,
    target: Space,
    optimizer: optax.GradientTransformation,
    context_length: int = 1,
    window: int | None = None,
    width: int = 128,
    num_heads: int = 4,
    num_blocks: int = 1,
    num_slots: int = 32,
    dropout: float = 0.0,
    position: Position = rotary(),
    learning: Learning = value_access(),
) -> Kernel:
    """A gradient kernel that attends over its context.

    Args:
        input: space of the context items.
        value: space of the predicted values.
        target: space of the targets.
        optimizer: an optax transformation.
        context_length: C.
        window: number of items each item sees, itself included; the whole context by default.
        width: D, dimensions of a token.
        num_heads: H, a divisor of the width.
        num_blocks: transformer blocks.
        num_slots: S, hypotheses per query.
        dropout: dropout rate in `fit`, in [0, 1).
        position: an encoding of `thinking.networks.positions`.
        learning: slot selection and asymmetry.

    Raises:
        ValueError: if a size is below 1, the heads do not divide the width, or the dropout is out of range.
    """
    check_context_length(context_length)
    return sequence_kernel(
        "transformer",
        [attention()] * num_blocks,
        spaces=Spaces(input, value, target),
        block=BlockConfig(width, num_heads, position=position, dropout=dropout),
        optimizer=optimizer,
        context_length=context_length,
        num_slots=num_slots,
        learning=learning,
        pattern=Window(context_length if window is None else window),
    )
