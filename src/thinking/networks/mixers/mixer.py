"""Token mixers as first-class objects: attention, or a recurrence with a state of constant size.

Axes: B rows, C tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import Attention, BlockConfig
from thinking.types import Array, State


class RecurrentInputs(NamedTuple):
    """What a recurrent mixer needs beside the tokens.

    Attributes:
        state: of the rows before the first token, a PyTree of arrays [B, ...].
        is_start: [B, C] bool, tokens that begin a text; what came before them is forgotten.
        is_valid: [B, C] bool, tokens that count; the others leave the state as it is.
        key: typed key for what is random in training; None where nothing is.
        noise_scale: [] float32 factor of noise on the state.
    """

    state: State
    is_start: Array
    is_valid: Array
    key: Array | None = None
    noise_scale: Array | float = 1.0


class RecurrentOutput(NamedTuple):
    """What a recurrent mixer returns beside the tokens.

    Attributes:
        state: after the last token.
        trace: diagnostics of the mixer, such as read weights, a PyTree of arrays [B, C, ...]; () for most.
    """

    state: State
    trace: Any = ()


class Mixer(NamedTuple):
    """A way to mix tokens.

    Attributes:
        name: of the mixer.
        build: `build(config, rngs) -> module`, called as `module(x [B, C, D], positions, inputs) -> (output, aux)`. A
            recurrent module takes `RecurrentInputs` and gives `RecurrentOutput`; attention takes a function that
            attends.
        init_state: `init_state(config, rows) -> state`, what a recurrence remembers before the first token; None for
            attention, which keeps a cache.
    """

    name: str
    build: Callable[[BlockConfig, nnx.Rngs], nnx.Module]
    init_state: Callable[[BlockConfig, int], State] | None


def attention() -> Mixer:
    """Attention, in the pattern of the decoder."""
    return Mixer("attention", Attention, None)


def continue_rows(state: State, shape: tuple[int, int]) -> RecurrentInputs:
    """The inputs for rows [B, C] that go on from a state, of which every token counts."""
    return RecurrentInputs(state, jnp.zeros(shape, bool), jnp.ones(shape, bool))


def repeat_mixers(mixers: Sequence[Mixer], num_layers: int) -> tuple[Mixer, ...]:
    """The mixer of each layer: those given, again and again.

    Raises:
        ValueError: if there are none, or more than layers.
    """
    if not 1 <= len(mixers) <= num_layers:
        raise ValueError(f"decoder: {len(mixers)} mixers for {num_layers} layers: give at least 1, at most one a layer")
    return tuple(mixers[layer % len(mixers)] for layer in range(num_layers))
