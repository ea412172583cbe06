"""Prompts: checks, and prefill of a cache.

Axes: B rows, P tokens of the longest prompt, N new tokens, V vocabulary size, K coordinates of a token.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder
from thinking.types import Array, Params

PREFILL_CHUNK = 512
"""Prompt tokens per prefill step: enough to keep the device busy, few enough for prompts of any length."""


def prefill_prompts(
    model: Decoder,
    params: Params,
    prompts: Array,
    lengths: Array,
    *,
    capacity: int,
    max_new_tokens: int,
    coordinates: Array | None = None,
) -> tuple[Cache, Array, Array]:
    """Prefill a cache with prompts, in chunks.

    Args:
        model: a decoder.
        params: its parameters.
        prompts: [B, P] int32, left-aligned.
        lengths: [B] int32, from 1, prompt tokens of each row.
        capacity: of the cache.
        max_new_tokens: new tokens that the context must have room for.
        coordinates: [B, P, K], for location encodings; positions by default.

    Returns:
        The cache after the prompts, and logits [B, V] and value [B] at each prompt's last token.

    Raises:
        ValueError: for prompts that are empty or too long.
    """
    check_prompts(prompts, lengths, max_new_tokens, model)
    rows, width = prompts.shape
    num_chunks = -(-width // PREFILL_CHUNK)
    chunk = -(-width // num_chunks)
    padding = ((0, 0), (0, num_chunks * chunk - width))
    chunks = jnp.pad(prompts, padding).reshape(rows, num_chunks, chunk).swapaxes(0, 1)
    chunk_coordinates = None
    if coordinates is not None:
        chunk_coordinates = jnp.pad(coordinates, (*padding, (0, 0))).reshape(rows, num_chunks, chunk, -1).swapaxes(0, 1)

    def read(carry: tuple, chunk_inputs: tuple) -> tuple[tuple, None]:
        cache, logits, value = carry
        index, inputs, here = chunk_inputs
        num_valid = jnp.clip(lengths - index * chunk, 0, chunk)
        output, cache = model.extend(params, cache, inputs, num_valid=num_valid, coordinates=here)
        last = jnp.maximum(num_valid - 1, 0)[:, None]
        ends_here = (num_valid > 0) & (lengths <= (index + 1) * chunk)
        last_logits = jnp.take_along_axis(output.logits, last[:, :, None], axis=1)[:, 0]
        value = jnp.where(ends_here, jnp.take_along_axis(output.value, last, axis=1)[:, 0], value)
        return (cache, jnp.where(ends_here[:, None], last_logits, logits), value), None

    init_carry = (
        model.init_cache(rows, capacity),
        jnp.zeros((rows, model.vocab_size), jnp.float32),
        jnp.zeros(rows, jnp.float32),
    )
    (cache, logits, value), _ = jax.lax.scan(read, init_carry, (jnp.arange(num_chunks), chunks, chunk_coordinates))
    return cache, logits, value


def check_tokens(name: str, tokens: Sequence[int] | Array, minimum: int, vocab_size: int) -> None:
    """Raises ValueError unless each is a token, from `minimum`; traced values are not checked."""
    if isinstance(tokens, jax.core.Tracer):
        return
    values = np.asarray(tokens).reshape(-1)
    for token in values[(values < minimum) | (values >= vocab_size)]:
        raise ValueError(f"generation: {name} holds {token}: allowed is {minimum} to {vocab_size - 1}")


def check_prompts(prompts: Array, lengths: Array, max_new_tokens: int, model: Decoder) -> None:
    """Raises ValueError unless prompts and so many new tokens fit the context.

    Lengths and tokens are checked outside of `jit` alone. Under `jit` a length below 1 or beyond its row gives a
    meaningless first token.
    """
    if prompts.ndim != 2 or 0 in prompts.shape:
        raise ValueError(
            f"generation: prompts have shape {prompts.shape}; give [rows, tokens] with at least one row of one token"
        )
    if lengths.shape != prompts.shape[:1]:
        raise ValueError(f"generation: lengths have shape {lengths.shape}; give one for each of {len(prompts)} prompts")
    max_prompt_tokens = model.context_length - max_new_tokens
    if prompts.shape[1] > max_prompt_tokens:
        raise ValueError(
            f"generation: a prompt of {prompts.shape[1]} tokens and {max_new_tokens} new ones are more than the "
            f"context of {model.context_length}; give at most {max_prompt_tokens}, or ask for fewer new tokens"
        )
    if isinstance(lengths, jax.core.Tracer) or isinstance(prompts, jax.core.Tracer):
        return
    row_lengths = np.asarray(lengths)
    for length in row_lengths[(row_lengths < 1) | (row_lengths > prompts.shape[1])]:
        raise ValueError(f"generation: a prompt has length {length}; allowed is 1 to {prompts.shape[1]}, its row")
    is_prompt = np.arange(prompts.shape[1])[None] < row_lengths[:, None]
    check_tokens("prompts", np.asarray(prompts)[is_prompt], 0, model.vocab_size)


def concat_completion(prompts: Array, lengths: Array, tokens: Array) -> Array:
    """[B, P + N] prompts [B, P] of `lengths` [B], each with its completion [B, N] right behind, then zeros."""
    index = jnp.arange(prompts.shape[1] + tokens.shape[1])[None] - lengths[:, None]
    completion = jnp.take_along_axis(tokens, jnp.clip(index, 0, tokens.shape[1] - 1), axis=1)
    padded_prompts = jnp.pad(prompts, ((0, 0), (0, tokens.shape[1])))
    return jnp.where(index < 0, padded_prompts, jnp.where(index < tokens.shape[1], completion, 0))
