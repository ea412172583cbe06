"""Models that think before they answer: no steps, empty steps, chosen tokens, or vectors, all of the same weights.

A word of n symbols takes n steps; the answer is read from the last, so there are n - 1 thoughts between them. Each step
stands where its symbol stands, and its input is what the step before it thought.

Axes: B words, N symbols of the longest, T thoughts (N - 1), A answers, K kinds of thoughts, D width.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, dense
from thinking.networks.pure import pure
from thinking.reasoning.thoughts.network import Memory, Reader

Array = jax.Array
Params = Any
Kind = Literal["none", "pause", "discrete", "continuous"]
"""What a step hands to the next: there is one step alone; nothing (Goyal et al. 2024); a token of a vocabulary of its
own; its hidden state (Hao et al. 2024)."""

Choice = Literal["straight_through", "gumbel", "drawn"]
"""How a token is chosen, and what its gradient is: the likeliest, as if it were its probabilities (Bengio et al. 2013);
the likeliest under Gumbel noise, in the same way (Jang et al. 2017); drawn, with no gradient at all."""


class Thinking(NamedTuple):
    """What came of words.

    Attributes:
        answers: [B, A] float32, logits.
        hidden: [B, N, D], what the answer is read from after each step; of `none` the last alone is not 0.
        thoughts: [B, T] int32, the tokens chosen; 0 where thoughts are no tokens.
        log_probs: [B, T] float32, of the tokens, in nats; 0 where thoughts are no tokens.
        entropy: [B, T] float32, of what they were chosen from, in nats.
        logits: [B, T, K] float32, what they were chosen from.
        made: [B, T] bool, which thoughts came before the answer.
    """

    answers: Array
    hidden: Array
    thoughts: Array
    log_probs: Array
    entropy: Array
    logits: Array
    made: Array


class Thinker(NamedTuple):
    """Pure functions; all jit.

    Attributes:
        init: `init(key) -> params`; consumes the key.
        think: `think(params, symbols [B, N] int32, lengths [B] int32, key=None, *, changed=None) -> Thinking`. With a
            key, which is consumed, tokens are chosen as in training; without one each is the likeliest. `changed`
            [B, T] int32 puts tokens in place of those chosen, where it is not negative.
        read: `read(params, hidden [..., D]) -> [..., A]`, the answers' logits.
        kind: of its thoughts.
        kinds: K.
    """

    init: Callable[[Array], Params]
    think: Callable[..., Thinking]
    read: Callable[[Params, Array], Array]
    kind: Kind
    kinds: int


def thinker(
    *,
    kind: Kind,
    symbols: int,
    answers: int,
    block: BlockConfig,
    layers: int = 1,
    choice: Choice = "straight_through",
    kinds: int | None = None,
    thought_width: int | None = None,
) -> Thinker:
    """A model that thinks.

    Args:
        kind: of its thoughts.
        symbols: how many there are.
        answers: A.
        block: the shape of its blocks.
        layers: how many blocks.
        choice: how tokens are chosen while it trains.
        kinds: K, of tokens with a head of their own; None: one for each answer, chosen by the head of the answers.
        thought_width: dimensions of the tokens' embeddings, which a linear map widens; None: D, without a map.
    """
    count = answers if kinds is None else kinds

    def build(key: Array) -> _Network:
        return _Network(symbols, answers, count, block, layers, kinds is not None, thought_width, nnx.Rngs(key))

    init, network = pure(build)

    def think(
        params: Params, words: Array, lengths: Array, key: Array | None = None, *, changed: Array | None = None
    ) -> Thinking:
        rows, longest = words.shape
        built = network(params)
        places = jnp.broadcast_to(jnp.arange(longest, dtype=jnp.int32)[None], words.shape)
        memory = built.reader.read(built.words(words), places, places < lengths[:, None], longest)
        if kind == "none":
            hidden = built.reader.step(memory, built.mark("begin", rows), lengths - 1, jnp.int32(longest))[0]
            hidden = jnp.where((places == lengths[:, None] - 1)[:, :, None], hidden[:, None], 0.0)
            told = _nothing(rows, count)
            told = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (longest, *leaf.shape)), told)
        else:
            keys = None if key is None else jax.random.split(key, longest)
            hidden, told = _steps(built, kind, choice, memory, lengths, keys, changed, count)
        last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
        made = places[:, :-1] < lengths[:, None] - 1
        return Thinking(built.answer(last), hidden, *(leaf[:-1].swapaxes(0, 1) for leaf in told), made)

    def read(params: Params, hidden: Array) -> Array:
        return network(params).answer(hidden)

    return Thinker(init, think, read, kind, count)


class _Network(nnx.Module):
    """The parameters, the same for every kind of thought."""

    def __init__(
        self,
        symbols: int,
        answers: int,
        kinds: int,
        block: BlockConfig,
        layers: int,
        own_head: bool,
        thought_width: int | None,
        rngs: nnx.Rngs,
    ) -> None:
        normal, width = nnx.initializers.normal, block.width
        narrow = thought_width or width
        self.words = nnx.Embed(symbols, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.marks = nnx.Embed(2, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.thoughts = nnx.Embed(kinds, narrow, embedding_init=normal(width**-0.5), rngs=rngs)
        self.widen = None if thought_width is None else dense(narrow, width, block, rngs)
        self.reader = Reader(block, layers, rngs)
        self.answer = nnx.Linear(width, answers, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs)
        self.choose = self.answer
        if own_head:
            self.choose = nnx.Linear(width, kinds, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs)

    def mark(self, name: Literal["begin", "pause"], rows: int) -> Array:
        """[B, D] of a token that is neither a symbol nor a thought."""
        return self.marks(jnp.full(rows, ("begin", "pause").index(name)))

    def thought(self, weights: Array) -> Array:
        """[B, D], the embeddings of tokens, weighted by [B, K]."""
        mixed = weights @ self.thoughts.embedding[...]
        return mixed if self.widen is None else self.widen(mixed)


Told = tuple[Array, Array, Array, Array]
"""Of one step: tokens, log-probabilities and entropy [B], and logits [B, K]."""


def _nothing(rows: int, count: int) -> Told:
    return jnp.zeros(rows, jnp.int32), jnp.zeros(rows), jnp.zeros(rows), jnp.zeros((rows, count))


def _steps(
    built: _Network,
    kind: Kind,
    choice: Choice,
    memory: Memory,
    lengths: Array,
    keys: Array | None,
    changed: Array | None,
    count: int,
) -> tuple[Array, Told]:
    """Hidden states [B, N, D], and what is told of each step, [N, B, ...]."""
    rows, longest = len(lengths), memory.seen.shape[1] // 2
    if changed is None:
        changed = jnp.full((rows, longest - 1), -1)
    changed = jnp.pad(changed, ((0, 0), (0, 1)), constant_values=-1)

    def onward(hidden: Array, key: Array | None, token: Array) -> tuple[Array, Told]:
        if kind == "pause":
            return built.mark("pause", rows), _nothing(rows, count)
        if kind == "continuous":
            # As long as an embedding is at the start; the norm made it as long as the root of its width.
            return hidden * hidden.shape[1] ** -0.5, _nothing(rows, count)
        weights, told = chosen(built.choose(hidden), choice, key, token)
        return built.thought(weights), told

    def step(carried: tuple[Memory, Array], at: tuple) -> tuple[tuple[Memory, Array], tuple[Array, Told]]:
        number, key, token = at
        hidden, memory = built.reader.step(*carried, jnp.full(rows, number), longest + number)
        given, told = onward(hidden, key, token)
        return (memory, given), (hidden, told)

    def skip(carried: tuple[Memory, Array], at: tuple) -> tuple[tuple[Memory, Array], tuple[Array, Told]]:
        del at
        return carried, (jnp.zeros_like(carried[1]), _nothing(rows, count))

    def step_if_needed(carried: tuple[Memory, Array], at: tuple) -> tuple[Any, Any]:
        # A curriculum begins with words much shorter than the longest.
        return jax.lax.cond(at[0] < jnp.max(lengths), step, skip, carried, at)

    numbers = jnp.arange(longest, dtype=jnp.int32)
    begun = memory, built.mark("begin", rows)
    _, (hidden, told) = jax.lax.scan(step_if_needed, begun, (numbers, keys, changed.T))
    return hidden.swapaxes(0, 1), told


def chosen(logits: Array, choice: Choice, key: Array | None, changed: Array) -> tuple[Array, Told]:
    """Weights [B, K] of the tokens, 1 for the one that is chosen, and what is told of it.

    Args:
        logits: [B, K].
        choice: how it is chosen where there is a key.
        key: consumed; None: the likeliest.
        changed: [B] int32, tokens to choose instead, where not negative.
    """
    noisy = logits
    if key is not None and choice != "straight_through":
        noisy = logits + jax.random.gumbel(key, logits.shape)
    token = jnp.where(changed < 0, jnp.argmax(noisy, axis=-1), changed).astype(jnp.int32)
    weights = jax.nn.one_hot(token, logits.shape[1])
    if choice != "drawn":
        soft = jax.nn.softmax(noisy)
        weights = weights + soft - jax.lax.stop_gradient(soft)
    log_probs = jax.nn.log_softmax(logits)
    said = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=1)
    return weights, (token, said, entropy, logits)
