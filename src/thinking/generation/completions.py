"""Writing on from prompts, token by token over a cache.

Axes: B rows, P tokens of the longest prompt, N new tokens, V words of the vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.generation.prompts import check_prompts, check_tokens, read_prompts
from thinking.generation.sampling import Sampling, sample_tokens
from thinking.networks.attention.patterns import memory_bounds
from thinking.networks.cache import Cache, grow_cache
from thinking.networks.decoder import Decoder
from thinking.types import Array, Params

LocateFn = Callable[[Array, Array], Array]
"""`locate(where [B, K], token [B]) -> where [B, K]` of a token, given where the one before it was; 0 before the first.
What location positions read while a text grows."""

MAX_STAGES = 4
MIN_STAGE_TOKENS = 64
"""A cache that grows with the text is widened at most so often, each time for at least so many tokens: what is not yet
written is not read either, and each stage is compiled by itself."""


class Completions(NamedTuple):
    """What was written.

    Attributes:
        tokens: [B, N] int32, the stop token included; 0 beyond `length`.
        length: [B] int32, tokens written.
        log_prob: [B, N] float32, of each token under the model itself, whatever it was drawn from; 0 beyond `length`.
        value: [B, N] float32, by the value head, of the state in which each token was written.
        stopped: [B] bool, whether a stop token ended it, and not the limit.
    """

    tokens: Array
    length: Array
    log_prob: Array
    value: Array
    stopped: Array


class GenerationState(NamedTuple):
    """A text under way.

    Attributes:
        cache: of the model.
        logits: [B, V] of the next token.
        value: [B] by the value head, of this state.
        coordinates: [B, K], of the newest token.
        token_mask: [B, V] bool, words in prompt and text; [B, 0] where nobody asks.
        completions: up to now.
        step: [] int32, tokens written by the longest row.
        key: of all draws; never changes.
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
    """Generation as pure functions; all jit.

    Attributes:
        prefill: `begin(params, key, prompts [B, P], lengths [B], room) -> Writing`, with a cache for `room` new tokens;
            keeps the key. Prompts begin at the left, what follows the first `length` of a row is never read; each has
            at least 1 token.
        grow_cache: `widen(writing, capacity) -> Writing`, with a cache for rows of so many tokens, their prompts included.
        generate_until: `write(params, writing, until) -> Writing`, until every row has stopped or has `until` new tokens, for
            which the cache must have room.
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
    """How a model writes.

    Args:
        model: a decoder.
        max_new_tokens: N.
        sampling: how tokens are drawn.
        stop_tokens: a row that writes one of these has ended.
        forced_tokens: [N] or [B, N] int32, tokens to be written whatever the model says; -1 leaves the model free.
        locate: where tokens are, for location positions that do not simply count.
        num_coordinates: K of `locate`.

    Raises:
        ValueError: for a budget below 1 or beyond the context, and stop or forced tokens outside the vocabulary; by
            `begin`, for prompts that are empty or too long.
    """
    if not 1 <= max_new_tokens < model.context_length:
        raise ValueError(
            f"generation: max_new_tokens {max_new_tokens}: allowed is 1 to {model.context_length - 1}, as the context "
            f"of {model.context_length} also holds the prompt"
        )
    check_tokens("stop_tokens", stop_tokens, 0, model.vocab_size)
    if forced_tokens is not None:
        check_tokens("forced_tokens", forced_tokens, -1, model.vocab_size)

    def place(coordinates: Array, tokens: Array) -> tuple[Array | None, Array]:
        """Where tokens [B, M] are, [B, M, K], and where the last one is."""
        if locate is None:
            return None, coordinates
        end, each = jax.lax.scan(lambda before, token: (locate(before, token),) * 2, coordinates, tokens.T)
        return each.swapaxes(0, 1), end

    def begin(params: Params, key: Array, prompts: Array, lengths: Array, num_reserved_tokens: int) -> GenerationState:
        check_prompts(prompts, lengths, max_new_tokens, model)
        allowed = (max_new_tokens,), (len(prompts), max_new_tokens)
        if forced_tokens is not None and jnp.shape(forced_tokens) not in allowed:
            raise ValueError(
                f"generation: forced_tokens has shape {jnp.shape(forced_tokens)}; give {allowed[0]} or {allowed[1]}"
            )
        rows, width = prompts.shape
        real = jnp.arange(width)[None] < lengths[:, None]
        tokens = jnp.where(real, prompts, 0)
        where, _ = place(jnp.zeros((rows, num_coordinates), jnp.int32), tokens)
        read = read_prompts(
            model,
            params,
            tokens,
            lengths,
            capacity=width + num_reserved_tokens,
            max_new_tokens=max_new_tokens,
            coordinates=where,
        )
        last = jnp.zeros((rows, num_coordinates), jnp.int32)
        if where is not None:
            last = jnp.take_along_axis(where, (lengths - 1)[:, None, None], axis=1)[:, 0]
        held = _make_token_mask(tokens, real, model.vocab_size if sampling.needs_token_mask else 0)
        return GenerationState(
            *read, last, held, _empty_completions(rows, max_new_tokens), jnp.zeros((), jnp.int32), key
        )

    def choose(state: GenerationState) -> Array:
        token = sample_tokens(sampling, jax.random.fold_in(state.key, state.step), state.logits, state.token_mask)
        if forced_tokens is None:
            return token
        ordered = jnp.broadcast_to(jnp.asarray(forced_tokens, jnp.int32), state.completions.tokens.shape)[:, state.step]
        return jnp.where(ordered >= 0, ordered, token)

    def write_one(params: Params, state: GenerationState) -> GenerationState:
        token, going = choose(state), ~state.completions.stopped
        written = _append_token(state, token, going, stop_tokens)
        where, last = place(state.coordinates, token[:, None])
        held = state.token_mask
        if sampling.needs_token_mask:
            held = held | jax.nn.one_hot(token, model.vocab_size, dtype=bool)
        reading, cache = model.extend(
            params, state.cache, token[:, None], num_valid=going.astype(jnp.int32), coordinates=where
        )
        return GenerationState(
            cache, reading.logits[:, 0], reading.value[:, 0], last, held, written, state.step + 1, state.key
        )

    def widen(state: GenerationState, capacity: int) -> GenerationState:
        return state._replace(cache=grow_cache(model.pattern, state.cache, capacity))

    def write(params: Params, state: GenerationState, until: Array) -> GenerationState:
        end = jnp.minimum(until, max_new_tokens)

        def going(state: GenerationState) -> Array:
            return (state.step < end) & ~jnp.all(state.completions.stopped)

        return jax.lax.while_loop(going, lambda writing: write_one(params, writing), state)

    return Generator(begin, widen, write)


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
    """Write on from prompts; jits.

    Args:
        model: a decoder.
        params: its parameters.
        key: of all draws; consumed.
        prompts: [B, P] int32, each beginning at the left.
        lengths: [B] int32, from 1, how many tokens of each row are its prompt; all by default.
        max_new_tokens: N.
        **options: of `make_generator`.

    Raises:
        ValueError: as `make_generator` does.
    """
    made = make_generator(model, max_new_tokens=max_new_tokens, **options)
    lengths = jnp.full(len(prompts), prompts.shape[1], jnp.int32) if lengths is None else lengths
    # A ring does not grow.
    stages = min(MAX_STAGES, -(-max_new_tokens // MIN_STAGE_TOKENS)) if memory_bounds(model.pattern) is None else 1
    rooms = [-(-max_new_tokens * (stage + 1) // stages) for stage in range(stages)]
    writing = made.prefill(params, key, prompts, lengths, rooms[0])
    for room in rooms:
        writing = made.generate_until(params, made.grow_cache(writing, prompts.shape[1] + room), room)
    return writing.completions


def make_streamer(
    model: Decoder, *, max_prompt_tokens: int, max_new_tokens: int, chunk_size: int = 8, **options: Any
) -> Callable[[Params, Array, Sequence[int]], Iterator[list[int]]]:
    """Write on from one prompt after another, and hand on what was written while it is written.

    Args:
        model: a decoder.
        max_prompt_tokens: P, of the longest prompt. All are read at this width, so that everything is compiled once.
        max_new_tokens: N.
        chunk_size: so many tokens at a time.
        **options: of `make_generator`.

    Returns:
        `stream(params, key, prompt)`, which yields the tokens that are new since the last time, together those that
        `generate` writes. It consumes the key.

    Raises:
        ValueError: as `make_generator` does, and for `chunk_size` below 1; by `stream`, for a prompt that is empty, too long, or
            holds what is no word.
    """
    if chunk_size < 1:
        raise ValueError(f"generation: chunk_size {chunk_size} is out of range; give at least 1")
    made = make_generator(model, max_new_tokens=max_new_tokens, **options)
    begin, write = jax.jit(made.prefill, static_argnums=4), jax.jit(made.generate_until, donate_argnums=1)

    def pieces(params: Params, state: GenerationState) -> Iterator[list[int]]:
        shown, going = 0, True
        while going:
            state = write(params, state, shown + chunk_size)
            length, stopped = int(state.completions.length[0]), bool(state.completions.stopped[0])
            yield np.asarray(state.completions.tokens[0, shown:length]).tolist()
            shown, going = length, not stopped and length < max_new_tokens

    def stream(params: Params, key: Array, prompt: Sequence[int]) -> Iterator[list[int]]:
        if not 1 <= len(prompt) <= max_prompt_tokens:
            raise ValueError(f"generation: a prompt has length {len(prompt)}; allowed is 1 to {max_prompt_tokens}")
        check_tokens("prompt", prompt, 0, model.vocab_size)
        tokens = np.zeros((1, max_prompt_tokens), np.int32)
        tokens[0, : len(prompt)] = prompt
        return pieces(params, begin(params, key, tokens, np.int32([len(prompt)]), max_new_tokens))

    return stream


def _make_token_mask(tokens: Array, is_valid: Array, vocab_size: int) -> Array:
    """[B, V] bool, which words are among the real tokens [B, P]."""
    rows = len(tokens)
    words = jnp.where(is_valid, tokens, vocab_size)
    return jnp.zeros((rows, vocab_size), bool).at[jnp.arange(rows)[:, None], words].set(True, mode="drop")


def _empty_completions(rows: int, max_new_tokens: int) -> Completions:
    blank = jnp.zeros((rows, max_new_tokens), jnp.float32)
    none = jnp.zeros(rows, jnp.int32)
    return Completions(blank.astype(jnp.int32), none, blank, blank, none.astype(bool))


def _append_token(state: GenerationState, token: Array, is_active: Array, stop_tokens: Sequence[int]) -> Completions:
    """The text with one more token in rows that are going on."""
    before, step = state.completions, state.step
    said = jnp.take_along_axis(state.logits, token[:, None], axis=1)[:, 0]
    log_prob = said - jax.nn.logsumexp(state.logits, axis=1)

    def put(whole: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(whole, jnp.where(is_active, new, 0), step, 1)

    stops = jnp.zeros_like(is_active)
    for stop in stop_tokens:
        stops = stops | (token == stop)
    return Completions(
        tokens=put(before.tokens, token),
        length=before.length + is_active,
        log_prob=put(before.log_prob, log_prob),
        value=put(before.value, state.value),
        stopped=before.stopped | (is_active & stops),
    )
