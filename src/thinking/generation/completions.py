"""Generation of completions, token by token over a cache.

Axes: B rows, P tokens of the longest prompt, N new tokens, V vocabulary size, K coordinates of a token.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.generation.prompts import check_prompts, check_tokens, prefill_prompts
from thinking.generation.sampling import Sampling, fold_in_rows, sample_tokens, split_by_row
from thinking.networks.attention.patterns import cache_bounds
from thinking.networks.cache import Cache, grow_cache
from thinking.networks.decoder import Decoder
from thinking.types import Array, Params

LocateFn = Callable[[Array, Array], Array]
"""`locate(coordinates [B, K], token [B]) -> coordinates [B, K]`: coordinates, such as a digit's place, of the next
token, from those of the one before it; 0 before the first. See `networks.positions.location`."""

MAX_STAGES = 4
MIN_STAGE_TOKENS = 64
"""A growing cache is enlarged at most `MAX_STAGES` times, by at least so many tokens: attention skips the slots that
are not yet needed, but each stage is compiled separately."""


class Completions(NamedTuple):
    """Generated completions.

    Attributes:
        tokens: [B, N] int32, the stop token included; 0 beyond `length`.
        length: [B] int32, number of generated tokens.
        log_prob: [B, N] float32, of each token by the logits before `Sampling` changes them; 0 beyond `length`.
        value: [B, N] float32, by the value head, of the state before each token.
        stopped: [B] bool, whether a stop token ended it, rather than the limit.
    """

    tokens: Array
    length: Array
    log_prob: Array
    value: Array
    stopped: Array


class GenerationState(NamedTuple):
    """The state of generation.

    Attributes:
        cache: of the model.
        logits: [B, V] of the next token.
        value: [B] by the value head, of this state.
        coordinates: [B, K], of the newest token.
        token_mask: [B, V] bool, tokens in prompt and completion; [B, 0] where sampling does not need it.
        completions: so far.
        step: [] int32, tokens of the longest completion.
        key: [B], of all samples of each row; never changes.
    """

    cache: Cache
    logits: Array
    value: Array
    coordinates: Array
    token_mask: Array
    completions: Completions
    step: Array
    key: Array


class Generator(NamedTuple):
    """Generation as pure functions that can be jitted.

    Attributes:
        prefill: `prefill(params, key, prompts [B, P], lengths [B], num_reserved_tokens) -> GenerationState`, with a
            cache for so many new tokens; stores the key, one for all rows or [B]. Prompts are left-aligned, at least 1
            token each; tokens beyond `lengths` are ignored.
        grow_cache: `grow_cache(state, capacity) -> GenerationState`, with a cache for so many tokens, prompts included.
        generate_until: `generate_until(params, state, max_tokens) -> GenerationState`, until each row has stopped or
            has `max_tokens` new tokens, which the cache must have capacity for.
    """

    prefill: Callable[[Params, Array, Array, Array, int], GenerationState]
    grow_cache: Callable[[GenerationState, int], GenerationState]
    generate_until: Callable[[Params, GenerationState, Array], GenerationState]


def make_generator(
    model: Decoder,
    *,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    stop_tokens: Sequence[int] = (),
    forced_tokens: Array | None = None,
    locate: LocateFn | None = None,
    num_coordinates: int = 1,
) -> Generator:
    """Build a generator.

    Args:
        model: a decoder.
        max_new_tokens: N.
        sampling: how tokens are sampled.
        stop_tokens: tokens that end a row.
        forced_tokens: [N] or [B, N] int32, tokens to generate whatever the model predicts; -1 leaves it free.
        locate: coordinates, such as a digit's place, of the next token, for encodings such as
            `networks.positions.location`; positions by default.
        num_coordinates: K of `locate`.

    Raises:
        ValueError: for a budget below 1 or beyond the context, and stop or forced tokens outside the vocabulary; by
            `prefill`, for prompts that are empty or too long.
    """
    if not 1 <= max_new_tokens < model.context_length:
        raise ValueError(
            f"generation: max_new_tokens {max_new_tokens}: allowed is 1 to {model.context_length - 1}, as the context "
            f"of {model.context_length} also holds the prompt"
        )
    check_tokens("stop_tokens", stop_tokens, 0, model.vocab_size)
    if forced_tokens is not None:
        check_tokens("forced_tokens", forced_tokens, -1, model.vocab_size)

    def locate_tokens(coordinates: Array, tokens: Array) -> tuple[Array | None, Array]:
        """The coordinates [B, M, K] of tokens [B, M], and those of the last one."""
        if locate is None:
            return None, coordinates
        end, each = jax.lax.scan(lambda before, token: (locate(before, token),) * 2, coordinates, tokens.T)
        return each.swapaxes(0, 1), end

    def prefill(
        params: Params, key: Array, prompts: Array, lengths: Array, num_reserved_tokens: int
    ) -> GenerationState:
        check_prompts(prompts, lengths, max_new_tokens, model)
        allowed_shapes = (max_new_tokens,), (len(prompts), max_new_tokens)
        if forced_tokens is not None and jnp.shape(forced_tokens) not in allowed_shapes:
            raise ValueError(
                f"generation: forced_tokens has shape {jnp.shape(forced_tokens)}; give {allowed_shapes[0]} or "
                f"{allowed_shapes[1]}"
            )
        rows, width = prompts.shape
        is_prompt = jnp.arange(width)[None] < lengths[:, None]
        tokens = jnp.where(is_prompt, prompts, 0)
        coordinates, _ = locate_tokens(jnp.zeros((rows, num_coordinates), jnp.int32), tokens)
        prefilled = prefill_prompts(
            model,
            params,
            tokens,
            lengths,
            capacity=width + num_reserved_tokens,
            max_new_tokens=max_new_tokens,
            coordinates=coordinates,
        )
        last = jnp.zeros((rows, num_coordinates), jnp.int32)
        if coordinates is not None:
            last = jnp.take_along_axis(coordinates, (lengths - 1)[:, None, None], axis=1)[:, 0]
        token_mask = _make_token_mask(tokens, is_prompt, model.vocab_size if sampling.needs_token_mask else 0)
        completions = _empty_completions(rows, max_new_tokens)
        keys = split_by_row(key, rows)
        return GenerationState(*prefilled, last, token_mask, completions, jnp.zeros((), jnp.int32), keys)

    def next_token(state: GenerationState) -> Array:
        # By the position in the text, so that a text continues in the same way wherever its prompt ends.
        keys = fold_in_rows(state.key, state.cache.length)
        token = sample_tokens(sampling, keys, state.logits, state.token_mask)
        if forced_tokens is None:
            return token
        forced = jnp.broadcast_to(jnp.asarray(forced_tokens, jnp.int32), state.completions.tokens.shape)[:, state.step]
        return jnp.where(forced >= 0, forced, token)

    def generate_one(params: Params, state: GenerationState) -> GenerationState:
        token, is_active = next_token(state), ~state.completions.stopped
        completions = _append_token(state, token, is_active, stop_tokens)
        coordinates, last = locate_tokens(state.coordinates, token[:, None])
        token_mask = state.token_mask
        if sampling.needs_token_mask:
            token_mask = token_mask | jax.nn.one_hot(token, model.vocab_size, dtype=bool)
        output, cache = model.extend(
            params, state.cache, token[:, None], num_valid=is_active.astype(jnp.int32), coordinates=coordinates
        )
        return GenerationState(
            cache, output.logits[:, 0], output.value[:, 0], last, token_mask, completions, state.step + 1, state.key
        )

    def grow_state_cache(state: GenerationState, capacity: int) -> GenerationState:
        return state._replace(cache=grow_cache(model.pattern, state.cache, capacity))

    def generate_until(params: Params, state: GenerationState, max_tokens: Array) -> GenerationState:
        end = jnp.minimum(max_tokens, max_new_tokens)

        def is_unfinished(state: GenerationState) -> Array:
            return (state.step < end) & ~jnp.all(state.completions.stopped)

        return jax.lax.while_loop(is_unfinished, lambda state: generate_one(params, state), state)

    return Generator(prefill, grow_state_cache, generate_until)


def generate(
    model: Decoder,
    params: Params,
    key: Array,
    prompts: Array,
    lengths: Array | None = None,
    *,
    max_new_tokens: int,
    **options: Any,
) -> Completions:
    """Generate completions of prompts; can be jitted.

    A row depends on its own prompt and key only, whatever the other rows are. A token depends on its position in the
    text, so a prompt with the first tokens of its completion continues with the others, under the same key.

    Args:
        model: a decoder.
        params: its parameters.
        key: consumed; [B], one a row, or one for all, which each row folds with its index.
        prompts: [B, P] int32, left-aligned.
        lengths: [B] int32, from 1, prompt tokens of each row; all by default.
        max_new_tokens: N.
        **options: of `make_generator`.

    Raises:
        ValueError: as `make_generator` does.
    """
    generator = make_generator(model, max_new_tokens=max_new_tokens, **options)
    lengths = jnp.full(len(prompts), prompts.shape[1], jnp.int32) if lengths is None else lengths
    # A ring buffer does not grow.
    stages = min(MAX_STAGES, -(-max_new_tokens // MIN_STAGE_TOKENS)) if cache_bounds(model.pattern) is None else 1
    limits = [-(-max_new_tokens * (stage + 1) // stages) for stage in range(stages)]
    state = generator.prefill(params, key, prompts, lengths, limits[0])
    for limit in limits:
        state = generator.generate_until(params, generator.grow_cache(state, prompts.shape[1] + limit), limit)
    return state.completions


def make_streamer(
    model: Decoder, *, max_prompt_tokens: int, max_new_tokens: int, chunk_size: int = 8, **options: Any
) -> Callable[[Params, Array, Sequence[int]], Iterator[list[int]]]:
    """Generate the completion of one prompt after another, and yield its tokens as they come.

    Args:
        model: a decoder.
        max_prompt_tokens: P. Prompts are padded to it, so everything is compiled once.
        max_new_tokens: N.
        chunk_size: tokens per chunk.
        **options: of `make_generator`.

    Returns:
        `stream(params, key, prompt)`, which yields chunks of new tokens, together those of `generate`. Consumes the
        key.

    Raises:
        ValueError: as `make_generator` does, and for `chunk_size` below 1; by `stream`, for a prompt that is empty, too
            long, or has a token outside the vocabulary.
    """
    if chunk_size < 1:
        raise ValueError(f"generation: chunk_size {chunk_size} is out of range; give at least 1")
    generator = make_generator(model, max_new_tokens=max_new_tokens, **options)
    prefill, generate_until = (
        jax.jit(generator.prefill, static_argnums=4),
        jax.jit(generator.generate_until, donate_argnums=1),
    )

    def stream_chunks(params: Params, state: GenerationState) -> Iterator[list[int]]:
        num_yielded, is_unfinished = 0, True
        while is_unfinished:
            state = generate_until(params, state, num_yielded + chunk_size)
            length, stopped = int(state.completions.length[0]), bool(state.completions.stopped[0])
            yield np.asarray(state.completions.tokens[0, num_yielded:length]).tolist()
            num_yielded, is_unfinished = length, not stopped and length < max_new_tokens

    def stream(params: Params, key: Array, prompt: Sequence[int]) -> Iterator[list[int]]:
        if not 1 <= len(prompt) <= max_prompt_tokens:
            raise ValueError(f"generation: a prompt has length {len(prompt)}; allowed is 1 to {max_prompt_tokens}")
        check_tokens("prompt", prompt, 0, model.vocab_size)
        tokens = np.zeros((1, max_prompt_tokens), np.int32)
        tokens[0, : len(prompt)] = prompt
        return stream_chunks(params, prefill(params, key, tokens, np.int32([len(prompt)]), max_new_tokens))

    return stream


def _make_token_mask(tokens: Array, is_valid: Array, vocab_size: int) -> Array:
    """[B, V] bool, which tokens occur among the valid ones of [B, P]."""
    rows = len(tokens)
    indices = jnp.where(is_valid, tokens, vocab_size)
    return jnp.zeros((rows, vocab_size), bool).at[jnp.arange(rows)[:, None], indices].set(True, mode="drop")


def _empty_completions(rows: int, max_new_tokens: int) -> Completions:
    blank = jnp.zeros((rows, max_new_tokens), jnp.float32)
    none = jnp.zeros(rows, jnp.int32)
    return Completions(blank.astype(jnp.int32), none, blank, blank, none.astype(bool))


def _append_token(state: GenerationState, token: Array, is_active: Array, stop_tokens: Sequence[int]) -> Completions:
    """The completions with one more token in active rows."""
    completions, step = state.completions, state.step
    logit = jnp.take_along_axis(state.logits, token[:, None], axis=1)[:, 0]
    log_prob = logit - jax.nn.logsumexp(state.logits, axis=1)

    def write(array: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(array, jnp.where(is_active, new, 0), step, 1)

    stops = jnp.zeros_like(is_active)
    for stop in stop_tokens:
        stops = stops | (token == stop)
    return Completions(
        tokens=write(completions.tokens, token),
        length=completions.length + is_active,
        log_prob=write(completions.log_prob, log_prob),
        value=write(completions.value, state.value),
        stopped=completions.stopped | (is_active & stops),
    )
