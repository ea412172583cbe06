"""Prompts: checked, and read into a cache.

Axes: B rows, P tokens of the longest prompt, V words of the vocabulary.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder
from thinking.types import Array, Params

PREFILL_CHUNK = 512
"""Tokens of a prompt that are read at once: enough to keep the device busy, few enough for any length of prompt."""


def read_prompts(
    model: Decoder,
    params: Params,
    prompts: Array,
    lengths: Array,
    *,
    capacity: int,
    max_new_tokens: int,
    coordinates: Array | None = None,
) -> tuple[Cache, Array, Array]:
    """Read prompts, long ones in parts.

    Args:
        model: a decoder.
        params: its parameters.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1, how many tokens of each row are its prompt.
        capacity: of the cache.
        max_new_tokens: tokens that are to follow, for which the context must have room.
        coordinates: [B, P, K], where tokens are, for location positions that do not simply count.

    Returns:
        The cache after the prompts, and logits [B, V] and value [B] of each one's last token.

    Raises:
        ValueError: for prompts that are empty or too long.
    """
    check_prompts(prompts, lengths, max_new_tokens, model)
    rows, width = prompts.shape
    count = -(-width // PREFILL_CHUNK)
    chunk = -(-width // count)
    rest = ((0, 0), (0, count * chunk - width))
    parts = jnp.pad(prompts, rest).reshape(rows, count, chunk).swapaxes(0, 1)
    places = None
    if coordinates is not None:
        places = jnp.pad(coordinates, (*rest, (0, 0))).reshape(rows, count, chunk, -1).swapaxes(0, 1)

    def read(carry: tuple, part: tuple) -> tuple[tuple, None]:
        cache, logits, worth = carry
        index, inputs, there = part
        real = jnp.clip(lengths - index * chunk, 0, chunk)
        reading, cache = model.extend(params, cache, inputs, num_valid=real, coordinates=there)
        last = jnp.maximum(real - 1, 0)[:, None]
        ends_here = (real > 0) & (lengths <= (index + 1) * chunk)
        said = jnp.take_along_axis(reading.logits, last[:, :, None], axis=1)[:, 0]
        worth = jnp.where(ends_here, jnp.take_along_axis(reading.value, last, axis=1)[:, 0], worth)
        return (cache, jnp.where(ends_here[:, None], said, logits), worth), None

    begun = (
        model.init_cache(rows, capacity),
        jnp.zeros((rows, model.vocab_size), jnp.float32),
        jnp.zeros(rows, jnp.float32),
    )
    (cache, logits, worth), _ = jax.lax.scan(read, begun, (jnp.arange(count), parts, places))
    return cache, logits, worth


def check_tokens(name: str, tokens: Sequence[int] | Array, minimum: int, vocab_size: int) -> None:
    """Raises ValueError unless each is a word, from `minimum`; what is traced cannot be looked at."""
    if isinstance(tokens, jax.core.Tracer):
        return
    given = np.asarray(tokens).reshape(-1)
    for word in given[(given < minimum) | (given >= vocab_size)]:
        raise ValueError(f"generation: {name} holds {word}: allowed is {minimum} to {vocab_size - 1}")


def check_prompts(prompts: Array, lengths: Array, max_new_tokens: int, model: Decoder) -> None:
    """Raises ValueError unless prompts and so many new tokens fit the context.

    Lengths and words are looked at where they are known, outside of `jit`. Within it a length below 1 or beyond its row
    gives a first token that means nothing.
    """
    if prompts.ndim != 2 or 0 in prompts.shape:
        raise ValueError(
            f"generation: prompts have shape {prompts.shape}; give [rows, tokens] with at least one row of one token"
        )
    if lengths.shape != prompts.shape[:1]:
        raise ValueError(f"generation: lengths have shape {lengths.shape}; give one for each of {len(prompts)} prompts")
    room = model.context_length - max_new_tokens
    if prompts.shape[1] > room:
        raise ValueError(
            f"generation: a prompt of {prompts.shape[1]} tokens and {max_new_tokens} new ones are more than the context of "
            f"{model.context_length}; give at most {room}, or ask for fewer new tokens"
        )
    if isinstance(lengths, jax.core.Tracer) or isinstance(prompts, jax.core.Tracer):
        return
    given = np.asarray(lengths)
    for length in given[(given < 1) | (given > prompts.shape[1])]:
        raise ValueError(f"generation: a prompt has length {length}; allowed is 1 to {prompts.shape[1]}, its row")
    real = np.arange(prompts.shape[1])[None] < given[:, None]
    check_tokens("prompts", np.asarray(prompts)[real], 0, model.vocab_size)


def concat_completion(prompts: Array, lengths: Array, tokens: Array) -> Array:
    """[B, P + N] prompts with what follows right behind each, then zeros.

    Args:
        prompts: [B, P].
        lengths: [B], tokens of each prompt.
        tokens: [B, N], zeros behind what was written.
    """
    place = jnp.arange(prompts.shape[1] + tokens.shape[1])[None] - lengths[:, None]
    written = jnp.take_along_axis(tokens, jnp.clip(place, 0, tokens.shape[1] - 1), axis=1)
    asked = jnp.pad(prompts, ((0, 0), (0, tokens.shape[1])))
    return jnp.where(place < 0, asked, jnp.where(place < tokens.shape[1], written, 0))
