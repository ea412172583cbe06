"""Thoughts before text: special tokens that a decoder generates between a context and its continuation.

A row is a context, a thought with an end token, and a continuation. Text and thought tokens have separate softmaxes,
so that thoughts take no probability from text, and a model without thoughts has the same parameters.

Axes: B rows, C tokens of the context, N of the longest thought with its end, M of the continuation, T = C + N + M, V
tokens of the vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from thinking.generation.completions import generate
from thinking.generation.prompts import concat_completion
from thinking.generation.sampling import split_by_row
from thinking.networks.cache import Cache
from thinking.networks.decoder import Decoder, DecoderOutput
from thinking.types import Array, Params

Kind = Literal["random_filler", "none", "pause", "reinforced", "expert_iteration"]
"""Kinds of thoughts: `random_filler`, random tokens of random number, or none with probability 0.5; `none`; `pause`, a
fixed number of equal tokens (Goyal et al. 2024); `reinforced`, a fixed number of sampled tokens; `expert_iteration`,
sampled tokens up to a sampled end."""


class ThoughtVocabulary(NamedTuple):
    """Token ids: text tokens first, then thought tokens, then the end of a thought.

    Attributes:
        num_text_tokens: tokens of the text.
        num_thought_tokens: tokens of thoughts.
    """

    num_text_tokens: int
    num_thought_tokens: int

    @property
    def end_token(self) -> int:
        """Token that ends a thought."""
        return self.num_text_tokens + self.num_thought_tokens

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.end_token + 1


class Thought(NamedTuple):
    """Thoughts between context and continuation.

    Attributes:
        tokens: [B, N] int32, the end token included; 0 past `length`.
        length: [B] int32.
        num_sampled: [B] int32, number of leading tokens that the model sampled; a forced end token is not counted.
    """

    tokens: Array
    length: Array
    num_sampled: Array


class LogProbs(NamedTuple):
    """Log-probabilities of rows, in nats.

    Attributes:
        context: [B], of the context after its first token.
        continuation: [B].
        thought: [B, T], of each sampled thought token, at the position before it; 0 elsewhere.
        entropy: [B, T], of the thought distribution there; 0 elsewhere.
        sampled_mask: [B, T] float32, 1 at these positions, 0 elsewhere.
    """

    context: Array
    continuation: Array
    thought: Array
    entropy: Array
    sampled_mask: Array


class ThoughtPolicy(NamedTuple):
    """Sampling and log-probabilities of thoughts.

    Attributes:
        think: `think(params, key, contexts [B, C]) -> Thought`; consumes the key, one or [B].
        compute_log_probs: `compute_log_probs(params, contexts [B, C], thought, continuation [B, M]) -> LogProbs`.
    """

    think: Callable[[Params, Array, Array], Thought]
    compute_log_probs: Callable[[Params, Array, Thought, Array], LogProbs]


def make_thought_policy(kind: Kind, decoder: Decoder, vocabulary: ThoughtVocabulary, max_length: int) -> ThoughtPolicy:
    """The thought policy of a kind.

    Args:
        kind: kind of thoughts.
        decoder: a decoder of `vocabulary.vocab_size` tokens.
        vocabulary: token ids.
        max_length: maximum tokens of a thought before its end; the exact number for `pause` and `reinforced`.
    """
    thought_range = range(vocabulary.num_text_tokens, vocabulary.end_token + (kind == "expert_iteration"))
    constrained = constrain_tokens(decoder, thought_range)

    def think(params: Params, key: Array, contexts: Array) -> Thought:
        if kind == "none":
            return make_fixed_thought((), len(contexts))
        if kind == "random_filler":
            return _sample_filler(vocabulary, max_length, key, len(contexts))
        if kind == "pause":
            return make_fixed_thought(
                (vocabulary.num_text_tokens,) * max_length + (vocabulary.end_token,), len(contexts)
            )
        stop_tokens = (vocabulary.end_token,) if vocabulary.end_token in thought_range else ()
        completions = generate(constrained, params, key, contexts, max_new_tokens=max_length, stop_tokens=stop_tokens)
        is_forced_end = (jnp.arange(max_length + 1)[None] == completions.length[:, None]) & ~completions.stopped[
            :, None
        ]
        tokens = jnp.where(is_forced_end, vocabulary.end_token, jnp.pad(completions.tokens, ((0, 0), (0, 1))))
        return Thought(tokens, completions.length + ~completions.stopped, completions.length)

    def compute_log_probs(params: Params, contexts: Array, thought: Thought, continuation: Array) -> LogProbs:
        context_length, rows = contexts.shape[1], concat_row(contexts, thought, continuation)
        logits, targets = decoder.apply(params, rows).logits, jnp.pad(rows[:, 1:], ((0, 0), (0, 1)))
        text_log_probs, _ = _log_probs_and_entropy(logits, targets, range(vocabulary.num_text_tokens))
        thought_log_probs, entropy = _log_probs_and_entropy(logits, targets, thought_range)
        # Index of the token that each position predicts.
        next_index = jnp.arange(1, rows.shape[1] + 1)[None]
        continuation_start = context_length + thought.length[:, None]
        in_continuation = (next_index >= continuation_start) & (next_index < continuation_start + continuation.shape[1])
        is_sampled = (next_index >= context_length) & (next_index < context_length + thought.num_sampled[:, None])
        return LogProbs(
            context=jnp.sum(jnp.where(next_index < context_length, text_log_probs, 0.0), axis=1),
            continuation=jnp.sum(jnp.where(in_continuation, text_log_probs, 0.0), axis=1),
            thought=jnp.where(is_sampled, thought_log_probs, 0.0),
            entropy=jnp.where(is_sampled, entropy, 0.0),
            sampled_mask=is_sampled.astype(jnp.float32),
        )

    return ThoughtPolicy(think, compute_log_probs)


def make_fixed_thought(tokens: Sequence[int], batch_size: int) -> Thought:
    """The same thought for every row, none of it sampled."""
    length = jnp.full(batch_size, len(tokens), jnp.int32)
    return Thought(
        jnp.broadcast_to(jnp.array(tokens, jnp.int32), (batch_size, len(tokens))), length, jnp.zeros_like(length)
    )


def _sample_filler(vocabulary: ThoughtVocabulary, max_length: int, key: Array, batch_size: int) -> Thought:
    def sample_row(key: Array) -> tuple[Array, Array]:
        length_key, token_key, none_key = jax.random.split(key, 3)
        length = jax.random.randint(length_key, (), 1, max_length + 2)
        tokens = jax.random.randint(token_key, (max_length + 1,), vocabulary.num_text_tokens, vocabulary.end_token)
        return jnp.where(jax.random.bernoulli(none_key), 0, length), tokens

    length, tokens = jax.vmap(sample_row)(split_by_row(key, batch_size))
    distance_from_end = jnp.arange(1, max_length + 2)[None] - length[:, None]
    tokens = jnp.where(distance_from_end == 0, vocabulary.end_token, jnp.where(distance_from_end < 0, tokens, 0))
    return Thought(tokens, length, jnp.zeros_like(length))


def concat_row(contexts: Array, thought: Thought, continuation: Array) -> Array:
    """[B, T] context, thought and continuation without gaps, padded with zeros."""
    prefix = jnp.concatenate([contexts, thought.tokens], axis=1)
    return concat_completion(prefix, contexts.shape[1] + thought.length, continuation)


def constrain_tokens(decoder: Decoder, token_range: range) -> Decoder:
    """A decoder whose `extend` allows these tokens only."""
    token = jnp.arange(decoder.vocab_size)[None, None]
    allowed = (token >= token_range.start) & (token < token_range.stop)

    def extend(*inputs: Any, **options: Any) -> tuple[DecoderOutput, Cache]:
        output, cache = decoder.extend(*inputs, **options)
        return output._replace(logits=jnp.where(allowed, output.logits, -jnp.inf)), cache

    return decoder._replace(extend=extend)


def _log_probs_and_entropy(logits: Array, targets: Array, token_range: range) -> tuple[Array, Array]:
    """[B, T] each: log-probabilities of targets under a softmax over `token_range`, 0 outside it, and its entropy."""
    log_probs = jax.nn.log_softmax(logits[..., token_range.start : token_range.stop])
    # The gradient of a gather would be a slow scatter on a CPU.
    target_log_probs = jnp.sum(log_probs * jax.nn.one_hot(targets - token_range.start, len(token_range)), axis=-1)
    return target_log_probs, -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
