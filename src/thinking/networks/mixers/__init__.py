"""Mixers: what mixes the tokens of a row. `("delta", "delta", "attention")` in a decoder makes a hybrid."""

from collections.abc import Callable

from thinking.networks.mixers.delta import delta
from thinking.networks.mixers.gru import gru
from thinking.networks.mixers.linear_recurrence import linear_recurrence
from thinking.networks.mixers.memory import MemoryState, MemoryTrace, memory
from thinking.networks.mixers.mixer import (
    Mixer,
    RecurrentInputs,
    RecurrentOutput,
    attention,
    continue_rows,
    repeat_mixers,
)
from thinking.networks.mixers.pointwise import pointwise

MIXERS: dict[str, Callable[[], Mixer]] = {
    "attention": attention,
    "gru": gru,
    "linear_recurrence": linear_recurrence,
    "delta": delta,
    "memory": memory,
    "pointwise": pointwise,
}
"""Mixers of default settings, by name."""


def make_mixer(mixer: str | Mixer) -> Mixer:
    """A mixer by name, or as it is.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(mixer, Mixer):
        return mixer
    if mixer not in MIXERS:
        raise ValueError(f"mixer {mixer!r} is unknown; take one of {', '.join(MIXERS)}")
    return MIXERS[mixer]()


__all__ = [
    "MIXERS",
    "MemoryState",
    "MemoryTrace",
    "Mixer",
    "RecurrentInputs",
    "RecurrentOutput",
    "attention",
    "continue_rows",
    "delta",
    "gru",
    "linear_recurrence",
    "make_mixer",
    "memory",
    "pointwise",
    "repeat_mixers",
]
