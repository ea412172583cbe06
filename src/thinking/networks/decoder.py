"""A decoder as pure functions over its parameters: a transformer, a recurrent network, or a hybrid.

Axes: B rows, T tokens of a row, N new tokens, V vocabulary size, D width, K coordinates of a token.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks import cache as caches
from thinking.networks.attention.patterns import Dense, Pattern, TopK, pattern_parts
from thinking.networks.attention.sparse import attention
from thinking.networks.blocks import Block, BlockConfig, PositionalEncoding, flat_dot
from thinking.networks.cache import Cache
from thinking.networks.mixers import Mixer, RecurrentInputs, make_mixer, repeat_mixers
from thinking.networks.pure import make_pure
from thinking.types import Array, Params

_MIXER_KEYS = 2**31
"""Numbers from here on are folded into the keys of mixers, so that they differ from those of dropout."""


class DecoderOutput(NamedTuple):
    """The outputs at every input token.

    Attributes:
        logits: [B, T, V] float32, of the next token.
        value: [B, T] float32, of the value head; 0 without one.
        hidden: [B, T, D], the final hidden states.
    """

    logits: Array
    value: Array
    hidden: Array


class Decoder(NamedTuple):
    """A decoder's pure functions; `inputs` are tokens [B, T] int32, or vectors [B, T, D] in place of token embeddings.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        embed: `embed(params, tokens [...]) -> [..., D]`, token embeddings.
        apply: `apply(params, inputs, *, segments=None, coordinates=None, key=None, noise_scale=1.0) -> DecoderOutput`
            of whole rows.
            `segments` [B, T] int32 separates packed texts (0 is padding; `Global` and `TopK` use positions in the row).
            `coordinates` [B, T, K] are for location encodings; a token's position by default. A key, which is consumed,
            enables dropout, and noise on the state of a mixer that has it, times `noise_scale` [] float32.
        trace: `trace(params, inputs, *, segments=None) -> list` of what each layer's mixer shows of its work, such as
            the reads and writes of a memory; () for most.
        init_cache: `init_cache(rows, capacity=None) -> Cache` for rows of up to `capacity` tokens; `context_length` by
            default.
        extend: `extend(params, cache, inputs [B, N], *, num_valid=None, coordinates=None, prefix_cache=None) ->
            (DecoderOutput, Cache)` continues from a cache. The first `num_valid` [B] inputs of a row count, all by
            default; outputs of the others are meaningless. `prefix_cache` is a read-only cache that precedes the rows:
            each of its rows is the prefix of equally many consecutive rows. The caller keeps rows within the capacity;
            tokens beyond it are not cached.
        vocab_size: V.
        context_length: maximum tokens of a row.
        width: D.
        pattern: the attention pattern.
    """

    init: Callable[[Array], Params]
    embed: Callable[[Params, Array], Array]
    apply: Callable[..., DecoderOutput]
    trace: Callable[..., list[Any]]
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
    mixers: Sequence[str | Mixer] = ("attention",),
    pattern: Pattern = Dense(),
    tie_embeddings: bool = True,
    value_head: bool = False,
    remat: bool = False,
) -> Decoder:
    """A decoder: by default a transformer.

    Args:
        vocab_size: V, tokens are 0 to V - 1.
        context_length: tokens that a row may have.
        block: the shape of its blocks.
        num_layers: number of blocks.
        mixers: what mixes the tokens of each layer, again and again: `("delta", "delta", "attention")` is a hybrid.
            Names or values of `thinking.networks.mixers`.
        pattern: the attention pattern, applied causally.
        tie_embeddings: whether the token embedding is also the output layer (Press & Wolf 2017).
        value_head: whether there is a value head.
        remat: whether the backward pass recomputes each block's activations instead of storing them.

    Raises:
        ValueError: if a size is below 1, learned positions are too few, or a mixer is unknown.
    """
    for name, size in {"vocab_size": vocab_size, "context_length": context_length, "num_layers": num_layers}.items():
        if size < 1:
            raise ValueError(f"decoder: {name} {size} is out of range; give at least 1")

    layer_mixers = repeat_mixers([make_mixer(mixer) for mixer in mixers], num_layers)

    def build(key: Array) -> _Network:
        return _Network(vocab_size, context_length, block, layer_mixers, tie_embeddings, value_head, nnx.Rngs(key))

    init, network = make_pure(build)

    def embed(params: Params, tokens: Array) -> Array:
        return network(params).token_embedding(tokens)

    def apply(
        params: Params,
        inputs: Array,
        *,
        segments: Array | None = None,
        coordinates: Array | None = None,
        key: Array | None = None,
        noise_scale: Array | float = 1.0,
    ) -> DecoderOutput:
        return run_rows(params, inputs, segments, coordinates, key, noise_scale)[0]

    def trace(params: Params, inputs: Array, *, segments: Array | None = None) -> list[Any]:
        aux_outputs = run_rows(params, inputs, segments, None, None, 1.0)[1]
        return [() if aux is None else aux.trace for aux in aux_outputs]

    def run_rows(
        params: Params,
        inputs: Array,
        segments: Array | None,
        coordinates: Array | None,
        key: Array | None,
        noise_scale: Array | float,
    ) -> tuple[DecoderOutput, list[Any]]:
        _check_inputs(inputs, context_length, block.width)
        rngs = None if key is None or block.dropout == 0 else nnx.Rngs(dropout=key)

        def attend(q: Array, k: Array, v: Array) -> tuple[Array, None]:
            return attention(q, k, v, pattern=pattern, segments=segments), None

        positions = _row_positions(inputs.shape[1]) if segments is None else positions_within(segments)
        starts_text = jnp.broadcast_to(positions == 0, inputs.shape[:2])
        is_valid = jnp.ones_like(starts_text) if segments is None else segments > 0

        def make_inputs(layer: int, mixer: Mixer) -> Any:
            if mixer.init_state is None:
                return attend
            mixer_key = None if key is None else jax.random.fold_in(key, _MIXER_KEYS + layer)
            return RecurrentInputs(mixer.init_state(block, len(inputs)), starts_text, is_valid, mixer_key, noise_scale)

        mixer_inputs = [make_inputs(layer, mixer) for layer, mixer in enumerate(layer_mixers)]
        return network(params)(inputs, positions, coordinates, mixer_inputs, rngs, remat)

    def init_cache(rows: int, capacity: int | None = None) -> Cache:
        capacity = context_length if capacity is None else capacity
        if rows < 1 or not 1 <= capacity <= context_length:
            raise ValueError(
                f"cache: rows {rows}, capacity {capacity}: give at least 1 row, and a capacity from 1 to the context "
                f"length of {context_length}"
            )
        return caches.init_cache(pattern, layer_mixers, block, rows, capacity)

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
        continuation = caches.continue_cache(pattern, cache, inputs.shape[1], num_valid, prefix_cache)
        output, aux_outputs = network(params)(
            inputs, jnp.maximum(continuation.positions, 0), coordinates, continuation.mixer_inputs
        )
        return output, continuation.finish(aux_outputs)

    return Decoder(init, embed, apply, trace, init_cache, extend, vocab_size, context_length, block.width, pattern)


def positions_within(segments: Array) -> Array:
    """[B, T] int32, position of each token within its segment, from 0."""
    index = _row_positions(segments.shape[1])
    starts = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


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


def _with_mixer_inputs(mixer_inputs: Any) -> Callable[..., tuple[Array, Any]]:
    """A block's forward pass with these inputs closed over, since rematerialization takes no functions as arguments."""

    def apply_block(block: Block, x: Array, positions: Array, rngs: nnx.Rngs | None) -> tuple[Array, Any]:
        return block(x, positions, mixer_inputs, rngs)

    return apply_block


class _Network(nnx.Module):
    """The parameters, and the forward pass."""

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        block: BlockConfig,
        mixers: Sequence[Mixer],
        tied: bool,
        value_head: bool,
        rngs: nnx.Rngs,
    ) -> None:
        normal, width, self.dtype = nnx.initializers.normal, block.width, block.dtype
        # Initial logits of a tied embedding then have a variance of about 1.
        self.token_embedding = nnx.Embed(
            vocab_size, width, embedding_init=normal(width**-0.5), dtype=block.dtype, rngs=rngs
        )
        self.positional_encoding = PositionalEncoding(block, context_length, rngs)
        self.blocks = nnx.List([Block(block, rngs, mixer.build) for mixer in mixers])
        self.norm = nnx.RMSNorm(width, dtype=block.dtype, rngs=rngs)
        self.lm_head = None if tied else nnx.Linear(width, vocab_size, use_bias=False, dot_general=flat_dot, rngs=rngs)
        # Near 0 (Ziegler et al. 2019): large initial values would disturb an already trained network.
        small = normal(1 / (width + 1))
        self.value_head = (
            nnx.Linear(width, 1, kernel_init=small, dot_general=flat_dot, rngs=rngs) if value_head else None
        )

    def __call__(
        self,
        inputs: Array,
        positions: Array,
        coordinates: Array | None,
        mixer_inputs: list[Any],
        rngs: nnx.Rngs | None = None,
        remat: bool = False,
    ) -> tuple[DecoderOutput, list[Any]]:
        x = self.token_embedding(inputs) if inputs.ndim == 2 else inputs.astype(self.dtype)
        x = self.positional_encoding(x, positions, positions[:, :, None] if coordinates is None else coordinates)
        aux_outputs = []
        for block, each in zip(self.blocks, mixer_inputs, strict=True):
            apply_block = _with_mixer_inputs(each)
            x, aux = (nnx.remat(apply_block) if remat else apply_block)(block, x, positions, rngs)
            aux_outputs.append(aux)
        hidden = self.norm(x)
        return DecoderOutput(self._logits(hidden), self._value(hidden), hidden), aux_outputs

    def _logits(self, hidden: Array) -> Array:
        if self.lm_head is not None:
            return self.lm_head(hidden).astype(jnp.float32)
        embedding = self.token_embedding.embedding[...].astype(hidden.dtype)
        return flat_dot(hidden, embedding.T, None, preferred_element_type=jnp.float32)

    def _value(self, hidden: Array) -> Array:
        if self.value_head is None:
            return jnp.zeros(hidden.shape[:2], jnp.float32)
        return self.value_head(hidden)[..., 0].astype(jnp.float32)
