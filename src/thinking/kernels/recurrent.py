"""Recurrent kernels: a recurrence or an external memory over the context, projected to slots."""

import optax

from thinking.kernels.contract import Kernel, Spaces
from thinking.kernels.sequence import sequence_kernel
from thinking.kernels.slots import Learning, value_access
from thinking.networks import mixers
from thinking.networks.blocks import BlockConfig
from thinking.networks.mixers import Mixer, make_mixer
from thinking.networks.positions import none
from thinking.types import Space


def recurrent(
    *,
    input: Space,
    value: Space,
    target: Space,
    optimizer: optax.GradientTransformation,
    mixer: str | Mixer = "gru",
    context_length: int = 1,
    width: int = 128,
    num_heads: int = 4,
    num_blocks: int = 1,
    num_slots: int = 32,
    dropout: float = 0.0,
    learning: Learning = value_access(),
) -> Kernel:
    """A gradient kernel that reads its context item by item.

    Args:
        input: space of the context items.
        value: space of the predicted values.
        target: space of the targets.
        optimizer: an optax transformation.
        mixer: a recurrence of `thinking.networks.mixers`, or its name.
        context_length: C.
        width: D, dimensions of a token.
        num_heads: H, a divisor of the width.
        num_blocks: blocks.
        num_slots: S, hypotheses per query.
        dropout: dropout rate in `fit`, in [0, 1).
        learning: slot selection and asymmetry.

    Raises:
        ValueError: if a size is below 1, the heads do not divide the width, the dropout is out of range, or the mixer
            is no recurrence.
    """
    made = make_mixer(mixer)
    if made.init_state is None:
        raise ValueError("recurrent: attention is no recurrence; take kernels.transformer, or another mixer")
    return sequence_kernel(
        "recurrent",
        [made] * num_blocks,
        spaces=Spaces(input, value, target),
        block=BlockConfig(width, num_heads, position=none(), dropout=dropout),
        optimizer=optimizer,
        context_length=context_length,
        num_slots=num_slots,
        learning=learning,
    )


def memory(
    *,
    input: Space,
    value: Space,
    target: Space,
    optimizer: optax.GradientTransformation,
    memory_slots: int = 16,
    context_length: int = 1,
    width: int = 128,
    num_heads: int = 4,
    num_blocks: int = 1,
    num_slots: int = 32,
    dropout: float = 0.0,
    learning: Learning = value_access(),
) -> Kernel:
    """A gradient kernel that writes the items of its context to an external memory, and reads from it by content.

    Args:
        input, value, target, optimizer: as in `recurrent`.
        memory_slots: slots of each head of the memory.
        context_length, width, num_heads, num_blocks, num_slots, dropout, learning: as in `recurrent`.

    Raises:
        ValueError: as `recurrent`.
    """
    return recurrent(
        input=input,
        value=value,
        target=target,
        optimizer=optimizer,
        mixer=mixers.memory(memory_slots),
        context_length=context_length,
        width=width,
        num_heads=num_heads,
        num_blocks=num_blocks,
        num_slots=num_slots,
        dropout=dropout,
        learning=learning,
    )
