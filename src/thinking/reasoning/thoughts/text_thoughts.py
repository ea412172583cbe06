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
from thinking.generation.prompts import concat_completion
from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder, DecoderOutput
from thinking.types import Array, Params

Kind = Literal["idle", "plain", "pause", "judged", "supervised"]
"""How a model thinks: not at all every second time and else any number of tokens by chance; never; a fixed number of
tokens that say nothing (Goyal et al. 2024); a fixed number that the model draws; as many as it draws before it ends the
thought itself."""


class ThoughtVocabulary(NamedTuple):
    """What a model says: the text's tokens first, then those of thoughts, then the mark that ends a thought.

    Attributes:
        num_text_tokens: tokens of the text.
        num_thought_tokens: tokens of thoughts.
    """

    num_text_tokens: int
    num_thought_tokens: int

    @property
    def end_token(self) -> int:
        """The mark."""
        return self.num_text_tokens + self.num_thought_tokens

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.end_token + 1


class Thought(NamedTuple):
    """What stands between context and text.

    Attributes:
        tokens: [B, N] int32, the mark included; 0 beyond `length_reward`.
        length: [B] int32.
        num_sampled: [B] int32, how many of them, from the first, the model chose; a mark that was due was not.
    """

    tokens: Array
    length: Array
    num_sampled: Array


class LogProbs(NamedTuple):
    """What a model says of rows, in nats.

    Attributes:
        context: [B], the log-probability of the context behind its first token.
        continuation: [B], that of what follows.
        thought: [B, T], that of each token of the thought, told where the one before it stands; 0 elsewhere.
        entropy: [B, T], of the choice there.
        sampled_mask: [B, T] float32, 1 where the model chose, 0 elsewhere.
    """

    context: Array
    continuation: Array
    thought: Array
    entropy: Array
    sampled_mask: Array


class ThoughtPolicy(NamedTuple):
    """How a model thinks before it goes on with a text.

    Attributes:
        think: `think(params, key, contexts [B, C]) -> Thought`; consumes the key.
        compute_log_probs: `read(params, contexts [B, C], thought, following [B, M]) -> Said`.
    """

    think: Callable[[Params, Array, Array], Thought]
    compute_log_probs: Callable[[Params, Array, Thought, Array], LogProbs]


def make_thought_policy(kind: Kind, decoder: Decoder, vocabulary: ThoughtVocabulary, max_length: int) -> ThoughtPolicy:
    """The manner of a kind.

    Args:
        kind: of thoughts.
        decoder: a decoder of `words.total` words.
        vocabulary: of the model.
        max_length: tokens of a thought before its end; all but supervised thoughts have so many.
    """
    choices = range(vocabulary.num_text_tokens, vocabulary.end_token + (kind == "supervised"))
    mind = constrain_tokens(decoder, choices)

    def think(params: Params, key: Array, contexts: Array) -> Thought:
        if kind == "plain":
            return make_fixed_thought((), len(contexts))
        if kind == "idle":
            return _sample_filler(vocabulary, max_length, key, len(contexts))
        if kind == "pause":
            return make_fixed_thought(
                (vocabulary.num_text_tokens,) * max_length + (vocabulary.end_token,), len(contexts)
            )
        stops = (vocabulary.end_token,) if vocabulary.end_token in choices else ()
        written = generate(mind, params, key, contexts, max_new_tokens=max_length, stop_tokens=stops)
        due = (jnp.arange(max_length + 1)[None] == written.length[:, None]) & ~written.stopped[:, None]
        tokens = jnp.where(due, vocabulary.end_token, jnp.pad(written.tokens, ((0, 0), (0, 1))))
        return Thought(tokens, written.length + ~written.stopped, written.length)

    def compute_log_probs(params: Params, contexts: Array, thought: Thought, continuation: Array) -> LogProbs:
        begin, rows = contexts.shape[1], concat_row(contexts, thought, continuation)
        logits, wanted = decoder.apply(params, rows).logits, jnp.pad(rows[:, 1:], ((0, 0), (0, 1)))
        text, _ = _log_probs_and_entropy(logits, wanted, range(vocabulary.num_text_tokens))
        thoughts, entropy = _log_probs_and_entropy(logits, wanted, choices)
        # Of each place, the token behind it.
        behind = jnp.arange(1, rows.shape[1] + 1)[None]
        resumed = begin + thought.length[:, None]
        follows = (behind >= resumed) & (behind < resumed + continuation.shape[1])
        chosen = (behind >= begin) & (behind < begin + thought.num_sampled[:, None])
        return LogProbs(
            context=jnp.sum(jnp.where(behind < begin, text, 0.0), axis=1),
            continuation=jnp.sum(jnp.where(follows, text, 0.0), axis=1),
            thought=jnp.where(chosen, thoughts, 0.0),
            entropy=jnp.where(chosen, entropy, 0.0),
            sampled_mask=chosen.astype(jnp.float32),
        )

    return ThoughtPolicy(think, compute_log_probs)


def make_fixed_thought(tokens: Sequence[int], batch_size: int) -> Thought:
    """The same thought for every row, which no model chose."""
    length = jnp.full(batch_size, len(tokens), jnp.int32)
    return Thought(
        jnp.broadcast_to(jnp.array(tokens, jnp.int32), (batch_size, len(tokens))), length, jnp.zeros_like(length)
    )


def _sample_filler(vocabulary: ThoughtVocabulary, max_length: int, key: Array, batch_size: int) -> Thought:
    length_key, token_key, none_key = jax.random.split(key, 3)
    length = jax.random.randint(length_key, (batch_size,), 1, max_length + 2)
    length = jnp.where(jax.random.bernoulli(none_key, shape=(batch_size,)), 0, length)
    tokens = jax.random.randint(
        token_key, (batch_size, max_length + 1), vocabulary.num_text_tokens, vocabulary.end_token
    )
    behind = jnp.arange(1, max_length + 2)[None] - length[:, None]
    tokens = jnp.where(behind == 0, vocabulary.end_token, jnp.where(behind < 0, tokens, 0))
    return Thought(tokens, length, jnp.zeros_like(length))


def concat_row(contexts: Array, thought: Thought, continuation: Array) -> Array:
    """[B, T] context, thought and what follows, one right behind the other, then zeros."""
    begun = jnp.concatenate([contexts, thought.tokens], axis=1)
    return concat_completion(begun, contexts.shape[1] + thought.length, continuation)


def constrain_tokens(decoder: Decoder, token_range: range) -> Decoder:
    """A decoder that goes on with no other tokens than these."""
    word = jnp.arange(decoder.vocab_size)[None, None]
    allowed = (word >= token_range.start) & (word < token_range.stop)

    def extend(*inputs: Any, **options: Any) -> tuple[DecoderOutput, Cache]:
        reading, cache = decoder.extend(*inputs, **options)
        return reading._replace(logits=jnp.where(allowed, reading.logits, -jnp.inf)), cache

    return decoder._replace(extend=extend)


def _log_probs_and_entropy(logits: Array, targets: Array, token_range: range) -> tuple[Array, Array]:
    """[B, T] each: the log-probability of the wanted tokens among some, 0 for others, and the entropy."""
    logs = jax.nn.log_softmax(logits[..., token_range.start : token_range.stop])
    # A product, as a gather's gradient is a slow scatter on a CPU.
    said = jnp.sum(logs * jax.nn.one_hot(targets - token_range.start, len(token_range)), axis=-1)
    return said, -jnp.sum(jnp.exp(logs) * logs, axis=-1)
