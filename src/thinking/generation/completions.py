"""Writing on from prompts, token by token over a cache.

Axes: B rows, P tokens of the longest prompt, N new tokens, V words of the vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thinking.generation.prompts import check_prompts, check_words, read_prompts
from thinking.generation.sampling import Sampling, draw
from thinking.networks.attention.patterns import memory
from thinking.networks.cache import Cache, widened
from thinking.networks.decoder import Decoder
from thinking.types import Array, Params

Locate = Callable[[Array, Array], Array]
"""`locate(where [B, K], token [B]) -> where [B, K]` of a token, given where the one before it was; 0 before the first.
What location positions read while a text grows."""

STAGES = 4
STAGE = 64
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


class Writing(NamedTuple):
    """A text under way.

    Attributes:
        cache: of the model.
        logits: [B, V] of the next token.
        worth: [B] by the value head, of this state.
        where: [B, K], of the newest token.
        held: [B, V] bool, words in prompt and text; [B, 0] where nobody asks.
        written: up to now.
        step: [] int32, tokens written by the longest row.
        key: of all draws; never changes.
    """

    cache: Cache
    logits: Array
    worth: Array
    where: Array
    held: Array
    written: Completions
    step: Array
    key: Array


class Generator(NamedTuple):
    """Generation as pure functions; all jit.

    Attributes:
        begin: `begin(params, key, prompts [B, P], lengths [B], room) -> Writing`, with a cache for `room` new tokens;
            keeps the key. Prompts begin at the left, what follows the first `length` of a row is never read; each has
            at least 1 token.
        widen: `widen(writing, capacity) -> Writing`, with a cache for rows of so many tokens, their prompts included.
        write: `write(params, writing, until) -> Writing`, until every row has stopped or has `until` new tokens, for
            which the cache must have room.
    """

    begin: Callable[[Params, Array, Array, Array, int], Writing]
    widen: Callable[[Writing, int], Writing]
    write: Callable[[Params, Writing, Array], Writing]


def generator(
    model: Decoder,
    *,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    stop_tokens: Sequence[int] = (),
    forced: Array | None = None,
    locate: Locate | None = None,
    coordinates: int = 1,
) -> Generator:
    """How a model writes.

    Args:
        model: a decoder.
        max_new_tokens: N.
        sampling: how tokens are drawn.
        stop_tokens: a row that writes one of these has ended.
        forced: [N] or [B, N] int32, tokens to be written whatever the model says; -1 leaves the model free.
        locate: where tokens are, for location positions that do not simply count.
        coordinates: K of `locate`.

    Raises:
        ValueError: for a budget below 1 or beyond the context, and stop or forced tokens outside the vocabulary; by
            `begin`, for prompts that are empty or too long.
    """
    if not 1 <= max_new_tokens < model.context_length:
        raise ValueError(
            f"generation: max_new_tokens {max_new_tokens}: allowed is 1 to {model.context_length - 1}, as the context "
            f"of {model.context_length} also holds the prompt"
        )
    check_words("stop_tokens", stop_tokens, 0, model.vocabulary)
    if forced is not None:
        check_words("forced", forced, -1, model.vocabulary)

    def place(where: Array, tokens: Array) -> tuple[Array | None, Array]:
        """Where tokens [B, M] are, [B, M, K], and where the last one is."""
        if locate is None:
            return None, where
        end, each = jax.lax.scan(lambda before, token: (locate(before, token),) * 2, where, tokens.T)
        return each.swapaxes(0, 1), end

    def begin(params: Params, key: Array, prompts: Array, lengths: Array, room: int) -> Writing:
        check_prompts(prompts, lengths, max_new_tokens, model)
        allowed = (max_new_tokens,), (len(prompts), max_new_tokens)
        if forced is not None and jnp.shape(forced) not in allowed:
            raise ValueError(f"generation: forced has shape {jnp.shape(forced)}; give {allowed[0]} or {allowed[1]}")
        rows, width = prompts.shape
        real = jnp.arange(width)[None] < lengths[:, None]
        tokens = jnp.where(real, prompts, 0)
        where, _ = place(jnp.zeros((rows, coordinates), jnp.int32), tokens)
        read = read_prompts(model, params, tokens, lengths, capacity=width + room, new=max_new_tokens, where=where)
        last = jnp.zeros((rows, coordinates), jnp.int32)
        if where is not None:
            last = jnp.take_along_axis(where, (lengths - 1)[:, None, None], axis=1)[:, 0]
        held = _held(tokens, real, model.vocabulary if sampling.remembers else 0)
        return Writing(*read, last, held, _nothing_written(rows, max_new_tokens), jnp.zeros((), jnp.int32), key)

    def choose(writing: Writing) -> Array:
        token = draw(sampling, jax.random.fold_in(writing.key, writing.step), writing.logits, writing.held)
        if forced is None:
            return token
        ordered = jnp.broadcast_to(jnp.asarray(forced, jnp.int32), writing.written.tokens.shape)[:, writing.step]
        return jnp.where(ordered >= 0, ordered, token)

    def write_one(params: Params, writing: Writing) -> Writing:
        token, going = choose(writing), ~writing.written.stopped
        written = _noted(writing, token, going, stop_tokens)
        where, last = place(writing.where, token[:, None])
        held = writing.held
        if sampling.remembers:
            held = held | jax.nn.one_hot(token, model.vocabulary, dtype=bool)
        reading, cache = model.extend(params, writing.cache, token[:, None], real=going.astype(jnp.int32), where=where)
        return Writing(
            cache, reading.logits[:, 0], reading.value[:, 0], last, held, written, writing.step + 1, writing.key
        )

    def widen(writing: Writing, capacity: int) -> Writing:
        return writing._replace(cache=widened(model.pattern, writing.cache, capacity))

    def write(params: Params, writing: Writing, until: Array) -> Writing:
        end = jnp.minimum(until, max_new_tokens)

        def going(writing: Writing) -> Array:
            return (writing.step < end) & ~jnp.all(writing.written.stopped)

        return jax.lax.while_loop(going, lambda writing: write_one(params, writing), writing)

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
        **options: of `generator`.

    Raises:
        ValueError: as `generator` does.
    """
    made = generator(model, max_new_tokens=max_new_tokens, **options)
    lengths = jnp.full(len(prompts), prompts.shape[1], jnp.int32) if lengths is None else lengths
    # A ring does not grow.
    stages = min(STAGES, -(-max_new_tokens // STAGE)) if memory(model.pattern) is None else 1
    rooms = [-(-max_new_tokens * (stage + 1) // stages) for stage in range(stages)]
    writing = made.begin(params, key, prompts, lengths, rooms[0])
    for room in rooms:
        writing = made.write(params, made.widen(writing, prompts.shape[1] + room), room)
    return writing.written


def streamer(
    model: Decoder, *, prompt_tokens: int, max_new_tokens: int, every: int = 8, **options: Any
) -> Callable[[Params, Array, Sequence[int]], Iterator[list[int]]]:
    """Write on from one prompt after another, and hand on what was written while it is written.

    Args:
        model: a decoder.
        prompt_tokens: P, of the longest prompt. All are read at this width, so that everything is compiled once.
        max_new_tokens: N.
        every: so many tokens at a time.
        **options: of `generator`.

    Returns:
        `stream(params, key, prompt)`, which yields the tokens that are new since the last time, together those that
        `generate` writes. It consumes the key.

    Raises:
        ValueError: as `generator` does, and for `every` below 1; by `stream`, for a prompt that is empty, too long, or
            holds what is no word.
    """
    if every < 1:
        raise ValueError(f"generation: every {every} is out of range; give at least 1")
    made = generator(model, max_new_tokens=max_new_tokens, **options)
    begin, write = jax.jit(made.begin, static_argnums=4), jax.jit(made.write, donate_argnums=1)

    def pieces(params: Params, writing: Writing) -> Iterator[list[int]]:
        shown, going = 0, True
        while going:
            writing = write(params, writing, shown + every)
            length, stopped = int(writing.written.length[0]), bool(writing.written.stopped[0])
            yield np.asarray(writing.written.tokens[0, shown:length]).tolist()
            shown, going = length, not stopped and length < max_new_tokens

    def stream(params: Params, key: Array, prompt: Sequence[int]) -> Iterator[list[int]]:
        if not 1 <= len(prompt) <= prompt_tokens:
            raise ValueError(f"generation: a prompt has length {len(prompt)}; allowed is 1 to {prompt_tokens}")
        check_words("prompt", prompt, 0, model.vocabulary)
        tokens = np.zeros((1, prompt_tokens), np.int32)
        tokens[0, : len(prompt)] = prompt
        return pieces(params, begin(params, key, tokens, np.int32([len(prompt)]), max_new_tokens))

    return stream


def _held(tokens: Array, real: Array, vocabulary: int) -> Array:
    """[B, V] bool, which words are among the real tokens [B, P]."""
    rows = len(tokens)
    words = jnp.where(real, tokens, vocabulary)
    return jnp.zeros((rows, vocabulary), bool).at[jnp.arange(rows)[:, None], words].set(True, mode="drop")


def _nothing_written(rows: int, new: int) -> Completions:
    blank = jnp.zeros((rows, new), jnp.float32)
    none = jnp.zeros(rows, jnp.int32)
    return Completions(blank.astype(jnp.int32), none, blank, blank, none.astype(bool))


def _noted(writing: Writing, token: Array, going: Array, stop_tokens: Sequence[int]) -> Completions:
    """The text with one more token in rows that are going on."""
    before, step = writing.written, writing.step
    said = jnp.take_along_axis(writing.logits, token[:, None], axis=1)[:, 0]
    log_prob = said - jax.nn.logsumexp(writing.logits, axis=1)

    def put(whole: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(whole, jnp.where(going, new, 0), step, 1)

    stops = jnp.zeros_like(going)
    for stop in stop_tokens:
        stops = stops | (token == stop)
    return Completions(
        tokens=put(before.tokens, token),
        length=before.length + going,
        log_prob=put(before.log_prob, log_prob),
        value=put(before.value, writing.worth),
        stopped=before.stopped | (going & stops),
    )
