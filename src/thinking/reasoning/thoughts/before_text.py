"""Thoughts before text: tokens of their own that a decoder puts between what it has read and what comes next.

A row is a context, a thought that ends with a mark, and the tokens that follow. What follows is drawn from the text's
tokens alone and thoughts from theirs, so that thinking takes no probability away from any text, and a model that does
not think has the same weights.

Axes: B rows, C tokens of the context, N of the longest thought with its end, M that follow, T = C + N + M, V words.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from thinking.generation.completions import generate
from thinking.generation.prompts import joined
from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder, Reading
from thinking.types import Array, Params

Kind = Literal["idle", "plain", "pause", "judged", "supervised"]
"""How a model thinks: not at all every second time and else any number of tokens by chance; never; a fixed number of
tokens that say nothing (Goyal et al. 2024); a fixed number that the model draws; as many as it draws before it ends the
thought itself."""


class Words(NamedTuple):
    """What a model says: the text's tokens first, then those of thoughts, then the mark that ends a thought.

    Attributes:
        text: tokens of the text.
        thoughts: tokens of thoughts.
    """

    text: int
    thoughts: int

    @property
    def end(self) -> int:
        """The mark."""
        return self.text + self.thoughts

    @property
    def total(self) -> int:
        """V."""
        return self.end + 1


class Thought(NamedTuple):
    """What stands between context and text.

    Attributes:
        tokens: [B, N] int32, the mark included; 0 beyond `length`.
        length: [B] int32.
        chosen: [B] int32, how many of them, from the first, the model chose; a mark that was due was not.
    """

    tokens: Array
    length: Array
    chosen: Array


class Said(NamedTuple):
    """What a model says of rows, in nats.

    Attributes:
        context: [B], the log-probability of the context behind its first token.
        following: [B], that of what follows.
        thought: [B, T], that of each token of the thought, told where the one before it stands; 0 elsewhere.
        entropy: [B, T], of the choice there.
        chosen: [B, T] float32, 1 where the model chose, 0 elsewhere.
    """

    context: Array
    following: Array
    thought: Array
    entropy: Array
    chosen: Array


class Manner(NamedTuple):
    """How a model thinks before it goes on with a text.

    Attributes:
        think: `think(params, key, contexts [B, C]) -> Thought`; consumes the key.
        read: `read(params, contexts [B, C], thought, following [B, M]) -> Said`.
    """

    think: Callable[[Params, Array, Array], Thought]
    read: Callable[[Params, Array, Thought, Array], Said]


def manner(kind: Kind, model: Decoder, words: Words, most: int) -> Manner:
    """The manner of a kind.

    Args:
        kind: of thoughts.
        model: a decoder of `words.total` words.
        words: of the model.
        most: tokens of a thought before its end; all but supervised thoughts have so many.
    """
    choices = range(words.text, words.end + (kind == "supervised"))
    mind = confined(model, choices)

    def think(params: Params, key: Array, contexts: Array) -> Thought:
        if kind == "plain":
            return fixed((), len(contexts))
        if kind == "idle":
            return _idle(words, most, key, len(contexts))
        if kind == "pause":
            return fixed((words.text,) * most + (words.end,), len(contexts))
        stops = (words.end,) if words.end in choices else ()
        written = generate(mind, params, key, contexts, max_new_tokens=most, stop_tokens=stops)
        due = (jnp.arange(most + 1)[None] == written.length[:, None]) & ~written.stopped[:, None]
        tokens = jnp.where(due, words.end, jnp.pad(written.tokens, ((0, 0), (0, 1))))
        return Thought(tokens, written.length + ~written.stopped, written.length)

    def read(params: Params, contexts: Array, thought: Thought, following: Array) -> Said:
        begin, rows = contexts.shape[1], row(contexts, thought, following)
        logits, wanted = model.apply(params, rows).logits, jnp.pad(rows[:, 1:], ((0, 0), (0, 1)))
        text, _ = _told(logits, wanted, range(words.text))
        thoughts, entropy = _told(logits, wanted, choices)
        # Of each place, the token behind it.
        behind = jnp.arange(1, rows.shape[1] + 1)[None]
        resumed = begin + thought.length[:, None]
        follows = (behind >= resumed) & (behind < resumed + following.shape[1])
        chosen = (behind >= begin) & (behind < begin + thought.chosen[:, None])
        return Said(
            context=jnp.sum(jnp.where(behind < begin, text, 0.0), axis=1),
            following=jnp.sum(jnp.where(follows, text, 0.0), axis=1),
            thought=jnp.where(chosen, thoughts, 0.0),
            entropy=jnp.where(chosen, entropy, 0.0),
            chosen=chosen.astype(jnp.float32),
        )

    return Manner(think, read)


def fixed(tokens: Sequence[int], rows: int) -> Thought:
    """The same thought for every row, which no model chose."""
    length = jnp.full(rows, len(tokens), jnp.int32)
    return Thought(jnp.broadcast_to(jnp.array(tokens, jnp.int32), (rows, len(tokens))), length, jnp.zeros_like(length))


def _idle(words: Words, most: int, key: Array, rows: int) -> Thought:
    length_key, token_key, none_key = jax.random.split(key, 3)
    length = jax.random.randint(length_key, (rows,), 1, most + 2)
    length = jnp.where(jax.random.bernoulli(none_key, shape=(rows,)), 0, length)
    tokens = jax.random.randint(token_key, (rows, most + 1), words.text, words.end)
    behind = jnp.arange(1, most + 2)[None] - length[:, None]
    tokens = jnp.where(behind == 0, words.end, jnp.where(behind < 0, tokens, 0))
    return Thought(tokens, length, jnp.zeros_like(length))


def row(contexts: Array, thought: Thought, following: Array) -> Array:
    """[B, T] context, thought and what follows, one right behind the other, then zeros."""
    begun = jnp.concatenate([contexts, thought.tokens], axis=1)
    return joined(begun, contexts.shape[1] + thought.length, following)


def confined(model: Decoder, choices: range) -> Decoder:
    """A decoder that goes on with no other tokens than these."""
    word = jnp.arange(model.vocabulary)[None, None]
    allowed = (word >= choices.start) & (word < choices.stop)

    def extend(*inputs: Any, **options: Any) -> tuple[Reading, Cache]:
        reading, cache = model.extend(*inputs, **options)
        return reading._replace(logits=jnp.where(allowed, reading.logits, -jnp.inf)), cache

    return model._replace(extend=extend)


def _told(logits: Array, wanted: Array, choices: range) -> tuple[Array, Array]:
    """[B, T] each: the log-probability of the wanted tokens among some, 0 for others, and the entropy."""
    logs = jax.nn.log_softmax(logits[..., choices.start : choices.stop])
    # A product, as a gather's gradient is a slow scatter on a CPU.
    said = jnp.sum(logs * jax.nn.one_hot(wanted - choices.start, len(choices)), axis=-1)
    return said, -jnp.sum(jnp.exp(logs) * logs, axis=-1)
