"""A decoder of tokens, as a few pure functions over its parameters.

Axes: B rows, T tokens of a row, N new tokens, V words of the vocabulary, D width, K coordinates of a place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks import cache as caches
from thinking.networks.attention.patterns import Dense, Pattern, TopK, pattern_parts
from thinking.networks.attention.sparse import attention
from thinking.networks.blocks import AttendFn, Block, BlockConfig, PositionalEncoding, flat_dot
from thinking.networks.cache import Cache
from thinking.networks.pure import make_pure
from thinking.types import Array, Params


class DecoderOutput(NamedTuple):
    """What a decoder says of every token that it read.

    Attributes:
        logits: [B, T, V] float32, of the token that follows.
        value: [B, T] float32, by the value head; 0 where there is none.
        hidden: [B, T, D], what the logits are read from.
    """

    logits: Array
    value: Array
    hidden: Array


class Decoder(NamedTuple):
    """A decoder's pure functions; `inputs` are tokens [B, T] int32, or vectors [B, T, D] in their place.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        embed: `embed(params, tokens [...]) -> [..., D]`, the vectors that stand for tokens.
        apply: `apply(params, inputs, *, segments=None, coordinates=None, key=None) -> DecoderOutput` of whole rows. `segments`
            [B, T] int32 keeps packed texts apart (0 is padding; `Global` and `TopK` go by the row's places, not the
            text's); `where` [B, T, K] is what location positions read, by default each token's number; a key, which is
            consumed, makes it drop.
        init_cache: `begin(rows, capacity=None) -> Cache`, of rows up to `capacity` tokens, the context length by default.
        extend: `extend(params, cache, inputs [B, N], *, num_valid=None, coordinates=None, prefix_cache=None) -> (DecoderOutput, Cache)` goes
            on from a cache. Of each row the first `real` [B] inputs count, all by default; what is read of the others
            means nothing. `trunk` is a cache that comes before and is only read, so that many short branches can
            share it: each of its rows is the trunk of B / rows branches, side by side. The caller keeps rows within
            the capacity; what is beyond is not remembered.
        vocab_size: V.
        context_length: tokens that a row may have.
        width: D.
        pattern: what tokens attend to.
    """

    init: Callable[[Array], Params]
    embed: Callable[[Params, Array], Array]
    apply: Callable[..., DecoderOutput]
    init_cache: Callable[..., Cache]
    extend: Callable[..., tuple[DecoderOutput, Cache]]
    vocab_size: int
    context_length: int
    width: int
    pattern: Pattern


def decoder(
    *,
    vocab_size: int,
    context_length: int,
    block: BlockConfig,
    num_layers: int = 4,
    pattern: Pattern = Dense(),
    tie_embeddings: bool = True,
    value_head: bool = False,
    remat: bool = False,
) -> Decoder:
    """A decoder-only transformer.

    Args:
        vocab_size: V, tokens are 0 to V - 1.
        context_length: tokens that a row may have.
        block: the shape of its blocks.
        num_layers: how many blocks.
        pattern: what tokens attend to, causally.
        tie_embeddings: whether the words' embeddings also say the logits (Press & Wolf 2017).
        value_head: whether it says what each token's state is worth.
        remat: whether the backward pass computes each block again instead of remembering it.

    Raises:
        ValueError: if a size is below 1, or learned positions are too few.
    """
    for name, size in {"vocab_size": vocab_size, "context_length": context_length, "num_layers": num_layers}.items():
        if size < 1:
            raise ValueError(f"decoder: {name} {size} is out of range; give at least 1")

    def build(key: Array) -> _Network:
        return _Network(vocab_size, context_length, block, num_layers, tie_embeddings, value_head, nnx.Rngs(key))

    init, network = make_pure(build)

    def embed(params: Params, tokens: Array) -> Array:
        return network(params).words(tokens)

    def apply(
        params: Params,
        inputs: Array,
        *,
        segments: Array | None = None,
        coordinates: Array | None = None,
        key: Array | None = None,
    ) -> DecoderOutput:
        _check_inputs(inputs, context_length, block.width)

        def attend(q: Array, k: Array, v: Array) -> tuple[Array, None]:
            return attention(q, k, v, pattern=pattern, segments=segments), None

        rngs = None if key is None or block.dropout == 0 else nnx.Rngs(dropout=key)
        when = _row_positions(inputs.shape[1]) if segments is None else positions_within(segments)
        return network(params)(inputs, when, coordinates, [attend] * num_layers, rngs, remat)[0]

    def begin(rows: int, capacity: int | None = None) -> Cache:
        capacity = context_length if capacity is None else capacity
        if rows < 1 or not 1 <= capacity <= context_length:
            raise ValueError(
                f"cache: rows {rows}, capacity {capacity}: give at least 1 row, and a capacity from 1 to the context "
                f"length of {context_length}"
            )
        heads = block.num_kv_heads or block.num_heads
        return caches.init_cache(
            pattern, rows, capacity, num_layers, heads, block.width // block.num_heads, block.dtype
        )

    def extend(
        params: Params,
        cache: Cache,
        inputs: Array,
        *,
        num_valid: Array | None = None,
        coordinates: Array | None = None,
        prefix_cache: Cache | None = None,
    ) -> tuple[DecoderOutput, Cache]:
        _check_inputs(inputs, context_length, block.width)
        _check_cache(cache, prefix_cache, len(inputs), pattern)
        going_on = caches.continue_cache(pattern, cache, inputs.shape[1], num_valid, prefix_cache)
        reading, layers_after = network(params)(
            inputs, jnp.maximum(going_on.positions, 0), coordinates, going_on.attend_fns
        )
        return reading, going_on.finish(layers_after)

    return Decoder(init, embed, apply, begin, extend, vocab_size, context_length, block.width, pattern)


def positions_within(segments: Array) -> Array:
    """[B, T] int32, the number of each token within its segment, from 0."""
    index = _row_positions(segments.shape[1])
    begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return index - jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


def _row_positions(num_tokens: int) -> Array:
    return jnp.arange(num_tokens, dtype=jnp.int32)[None]


def _check_inputs(inputs: Array, context_length: int, width: int) -> None:
    tokens = jnp.issubdtype(inputs.dtype, jnp.integer) and inputs.ndim == 2
    vectors = jnp.issubdtype(inputs.dtype, jnp.floating) and inputs.ndim == 3 and inputs.shape[2] == width
    if not tokens and not vectors:
        raise ValueError(
            f"decoder: inputs are {inputs.dtype} {inputs.shape}; give tokens int32 [B, T], or vectors float "
            f"[B, T, {width}]"
        )
    if 0 in inputs.shape:
        raise ValueError(f"decoder: inputs of shape {inputs.shape} hold nothing; give at least one row of one token")
    if inputs.shape[1] > context_length:
        raise ValueError(
            f"decoder: rows of {inputs.shape[1]} tokens are longer than the context of {context_length}; "
            f"cut them, or build the decoder with a larger context_length"
        )


def _check_cache(cache: Cache, prefix_cache: Cache | None, rows: int, pattern: Pattern) -> None:
    if len(cache.length) != rows:
        raise ValueError(f"cache: it holds {len(cache.length)} rows, but there are inputs of {rows}; give as many")
    if prefix_cache is None:
        return
    if any(isinstance(part, TopK) for part in pattern_parts(pattern)):
        raise ValueError(f"cache: {pattern} picks blocks of the whole row, so it takes no prefix cache; copy the cache")
    if rows % len(prefix_cache.length):
        raise ValueError(
            f"cache: {rows} rows are no multiple of the {len(prefix_cache.length)} rows of their prefix cache"
        )


class _Network(nnx.Module):
    """The parameters, and how they read."""

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        block: BlockConfig,
        num_layers: int,
        tied: bool,
        value_head: bool,
        rngs: nnx.Rngs,
    ) -> None:
        normal, width, self.dtype = nnx.initializers.normal, block.width, block.dtype
        # Logits of tied words then begin with a variance of about 1.
        self.words = nnx.Embed(vocab_size, width, embedding_init=normal(width**-0.5), dtype=block.dtype, rngs=rngs)
        self.place = PositionalEncoding(block, context_length, rngs)
        self.blocks = nnx.List([Block(block, rngs) for _ in range(num_layers)])
        self.norm = nnx.RMSNorm(width, dtype=block.dtype, rngs=rngs)
        self.say = None if tied else nnx.Linear(width, vocab_size, use_bias=False, dot_general=flat_dot, rngs=rngs)
        # Near 0 at the start (Ziegler et al. 2019): a loud value would spoil what an already trained trunk says.
        small = normal(1 / (width + 1))
        self.judge = nnx.Linear(width, 1, kernel_init=small, dot_general=flat_dot, rngs=rngs) if value_head else None

    def __call__(
        self,
        inputs: Array,
        positions: Array,
        coordinates: Array | None,
        attend_fns: list[AttendFn],
        rngs: nnx.Rngs | None = None,
        remat: bool = False,
    ) -> tuple[DecoderOutput, list[Any]]:
        x = self.words(inputs) if inputs.ndim == 2 else inputs.astype(self.dtype)
        x = self.place(x, positions, positions[:, :, None] if coordinates is None else coordinates)
        kept, run = [], Block.__call__
        if remat:
            run = nnx.remat(run, static_argnums=(3,))  # attend is a function
        for block, attend in zip(self.blocks, attend_fns, strict=True):
            x, handed = run(block, x, positions, attend, rngs)
            kept.append(handed)
        hidden = self.norm(x)
        return DecoderOutput(self._logits(hidden), self._value(hidden), hidden), kept

    def _logits(self, hidden: Array) -> Array:
        if self.say is not None:
            return self.say(hidden).astype(jnp.float32)
        words = self.words.embedding[...].astype(hidden.dtype)
        return flat_dot(hidden, words.T, None, preferred_element_type=jnp.float32)

    def _value(self, hidden: Array) -> Array:
        if self.judge is None:
            return jnp.zeros(hidden.shape[:2], jnp.float32)
        return self.judge(hidden)[..., 0].astype(jnp.float32)
