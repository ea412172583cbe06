"""The parameters of a model that thinks, and the steps that it takes.

Axes: B words, N symbols of the longest, A answers, K kinds of thoughts, D width.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, dense
from thinking.reasoning.thoughts.reader import Reader, ReaderCache
from thinking.types import Array

Kind = Literal["none", "pause", "discrete", "continuous"]
"""What a step hands to the next: there is one step alone; nothing (Goyal et al. 2024); a token of a vocabulary of its
own; its hidden state (Hao et al. 2024), and with it the mixture of all tokens (Zhang et al. 2025, Soft Thinking)."""

GradientEstimator = Literal["straight_through", "gumbel", "drawn"]
"""How a token is chosen, and what its gradient is: the likeliest, as if it were its probabilities (Bengio et al. 2013);
the likeliest under Gumbel noise, in the same way (Jang et al. 2017); drawn, with no gradient at all."""

ThoughtOutput = tuple[Array, Array, Array, Array]
"""Of one step: tokens, log-probabilities and entropy [B], and logits [B, K]."""


class Network(nnx.Module):
    """The parameters, the same for every kind of thought."""

    def __init__(
        self,
        num_symbols: int,
        num_answers: int,
        num_thought_tokens: int,
        block: BlockConfig,
        num_layers: int,
        has_own_head: bool,
        thought_width: int | None,
        end_thought: bool,
        split: bool,
        rngs: nnx.Rngs,
    ) -> None:
        normal, width = nnx.initializers.normal, block.width
        narrow = thought_width or width
        self.words = nnx.Embed(num_symbols, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.empty = nnx.Embed(1, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.thoughts = nnx.Embed(num_thought_tokens, narrow, embedding_init=normal(width**-0.5), rngs=rngs)
        self.widen = None if thought_width is None else dense(narrow, width, block, rngs)
        self.reader = Reader(block, num_layers, rngs)
        self.answer = nnx.Linear(width, num_answers, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs)
        self.choose = self.answer
        if has_own_head:
            self.choose = nnx.Linear(
                width, num_thought_tokens, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs
            )
        # At first it thinks on.
        seldom = nnx.initializers.constant(-3.0)
        self.end = nnx.Linear(width, 1, kernel_init=normal(0.01), bias_init=seldom, rngs=rngs) if end_thought else None
        self.answerer = Reader(block, num_layers, rngs) if split else None

    def empty_input(self, batch_size: int) -> Array:
        """[B, D], what is given to a step that no thought is given to: the first one, and all those of pauses."""
        return self.empty(jnp.zeros(batch_size, jnp.int32))

    def embed_thought(self, weights: Array) -> Array:
        """[B, D], the embeddings of tokens, weighted by [B, K]."""
        mixed = weights @ self.thoughts.embedding[...]
        return mixed if self.widen is None else self.widen(mixed)

    def compute_final_hidden(self, thoughts: Array, lengths: Array, symbols: Array | None) -> Array:
        """[B, D], what the answer is read from where it is found in a context of its own.

        Args:
            thoughts: [B, N, D], what the steps thought; those of a word's length count.
            lengths: [B] int32.
            symbols: [B, N, D], embedded symbols that are seen beside the thoughts; None: thoughts alone.
        """
        seen = thoughts if symbols is None else jnp.concatenate([symbols, thoughts], axis=1)
        numbers = jnp.arange(thoughts.shape[1], dtype=jnp.int32)
        places = jnp.tile(numbers, (len(thoughts), seen.shape[1] // len(numbers)))
        reader = self.reader if self.answerer is None else self.answerer
        memory = reader.read(seen, places, places < lengths[:, None], 1)
        return reader.step(memory, self.empty_input(len(thoughts)), lengths - 1, jnp.int32(seen.shape[1]))[0]


def empty_thought_output(batch_size: int, num_thought_tokens: int) -> ThoughtOutput:
    """Of a step that chose no token."""
    return (
        jnp.zeros(batch_size, jnp.int32),
        jnp.zeros(batch_size),
        jnp.zeros(batch_size),
        jnp.zeros((batch_size, num_thought_tokens)),
    )


def take_steps(
    network: Network,
    kind: Kind,
    gradient: GradientEstimator,
    cache: ReaderCache,
    num_needed: Array,
    keys: Array | None,
    forced_tokens: Array,
    num_thought_tokens: int,
) -> tuple[Array, Array, ThoughtOutput]:
    """Hidden states and what was handed on, [B, N, D] both, and what is told of each step, [B, N, ...].

    Args:
        network: the parameters.
        kind: of thoughts, not `none`.
        gradient: how tokens are chosen where there are keys.
        cache: of the words, with room for N steps.
        num_needed: [] int32, steps after which nothing is done, since no word needs them.
        keys: [N], consumed; None: each token is the likeliest.
        forced_tokens: [N, B] int32, tokens to choose instead, where not negative.
        num_thought_tokens: K.
    """
    longest, rows = forced_tokens.shape

    def onward(hidden: Array, key: Array | None, token: Array) -> tuple[Array, ThoughtOutput]:
        if kind == "pause":
            return network.empty_input(rows), empty_thought_output(rows, num_thought_tokens)
        if kind == "continuous":
            # The hidden state is made as long as an embedding is at the start; the norm made it as long as the root
            # of its width. Alone it was never learned from beyond words of two symbols of A5.
            mixture = network.embed_thought(jax.nn.softmax(network.choose(hidden)))
            return drop_hidden_states(hidden, key) * hidden.shape[1] ** -0.5 + mixture, empty_thought_output(
                rows, num_thought_tokens
            )
        weights, told = choose_token(network.choose(hidden), gradient, key, token)
        return network.embed_thought(weights), told

    def step(
        carried: tuple[ReaderCache, Array], at: tuple
    ) -> tuple[tuple[ReaderCache, Array], tuple[Array, Array, ThoughtOutput]]:
        number, key, token = at
        hidden, memory = network.reader.step(*carried, jnp.full(rows, number), longest + number)
        given, told = onward(hidden, key, token)
        return (memory, given), (hidden, given, told)

    def skip(
        carried: tuple[ReaderCache, Array], at: tuple
    ) -> tuple[tuple[ReaderCache, Array], tuple[Array, Array, ThoughtOutput]]:
        del at
        nothing = jnp.zeros_like(carried[1])
        return carried, (nothing, nothing, empty_thought_output(rows, num_thought_tokens))

    def step_if_needed(carried: tuple[ReaderCache, Array], at: tuple) -> tuple[Any, Any]:
        # A curriculum begins with words much shorter than the longest.
        return jax.lax.cond(at[0] < num_needed, step, skip, carried, at)

    numbers = jnp.arange(longest, dtype=jnp.int32)
    taken = jax.lax.scan(step_if_needed, (cache, network.empty_input(rows)), (numbers, keys, forced_tokens))[1]
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), taken)


def answer_at_once(
    network: Network, cache: ReaderCache, lengths: Array, max_length: int, num_thought_tokens: int
) -> tuple[Array, ThoughtOutput]:
    """The same of a model that takes one step alone, where the word ends; all other hidden states are 0."""
    rows = len(lengths)
    hidden = network.reader.step(cache, network.empty_input(rows), lengths - 1, jnp.int32(max_length))[0]
    told = jax.tree.map(
        lambda leaf: jnp.repeat(leaf[:, None], max_length, axis=1), empty_thought_output(rows, num_thought_tokens)
    )
    return jax.nn.one_hot(lengths - 1, max_length)[:, :, None] * hidden[:, None], told


def drop_hidden_states(hidden: Array, key: Array | None) -> Array:
    """Hidden states [B, D] of which half, drawn at random, become 0; all of them stay where there is no key.

    Dropout of whole vectors (Srivastava et al. 2014), unscaled: so the mixture of tokens learns to carry a thought by
    itself. Where the hidden states were always there, one seed of three came to a code that wore off with the steps.
    """
    if key is None:
        return hidden
    return jnp.where(jax.random.bernoulli(key, shape=(len(hidden), 1)), hidden, 0)


def choose_token(
    logits: Array, gradient: GradientEstimator, key: Array | None, forced_tokens: Array
) -> tuple[Array, ThoughtOutput]:
    """Weights [B, K] of the tokens, 1 for the one that is chosen, and what is told of it.

    Args:
        logits: [B, K].
        gradient: how it is chosen where there is a key.
        key: consumed; None: the likeliest.
        forced_tokens: [B] int32, tokens to choose instead, where not negative.
    """
    noisy = logits
    if key is not None and gradient != "straight_through":
        noisy = logits + jax.random.gumbel(key, logits.shape)
    token = jnp.where(forced_tokens < 0, jnp.argmax(noisy, axis=-1), forced_tokens).astype(jnp.int32)
    weights = jax.nn.one_hot(token, logits.shape[1])
    if gradient != "drawn":
        soft = jax.nn.softmax(noisy)
        weights = weights + soft - jax.lax.stop_gradient(soft)
    log_probs = jax.nn.log_softmax(logits)
    said = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=1)
    return weights, (token, said, entropy, logits)


def compute_end_log_probs(logits: Array, *, is_sampled: bool) -> Array:
    """[B, N] float32, the log-probability that thinking ends after each step; the last always ends it.

    Args:
        logits: [B, N], of `<end_thought>` against another thought, after each step.
        is_sampled: whether it ends at random; else after the first step that would rather end.
    """
    last = jnp.arange(logits.shape[1])[None] == logits.shape[1] - 1
    if not is_sampled:
        first = jnp.argmax((logits > 0) | last, axis=1)
        return jnp.log(jax.nn.one_hot(first, logits.shape[1]))
    going = jnp.cumsum(jax.nn.log_sigmoid(-logits), axis=1)
    ending = jnp.where(last, 0.0, jax.nn.log_sigmoid(logits))
    return ending + jnp.pad(going[:, :-1], ((0, 0), (1, 0)))


def marginalize_over_ends(
    network: Network, hidden: Array, lengths: Array, can_end: Array | None, *, is_sampled: bool
) -> tuple[Array, Array]:
    """Log-probabilities of the answers over all ends of thinking [B, A], and how many steps it takes in the mean [B].

    Args:
        network: the parameters.
        hidden: [B, N, D], after each step.
        lengths: [B] int32, of the words.
        can_end: [B] bool, where the model says when it ends; elsewhere it ends with the word. None: everywhere.
        is_sampled: whether thinking ends at random; else after the first step that would rather end.
    """
    log_end = compute_end_log_probs(network.end(hidden)[:, :, 0], is_sampled=is_sampled)
    if can_end is not None:
        log_end = jnp.where(can_end[:, None], log_end, jnp.log(jax.nn.one_hot(lengths - 1, hidden.shape[1])))
    answers = jax.nn.logsumexp(log_end[:, :, None] + jax.nn.log_softmax(network.answer(hidden)), axis=1)
    return answers, jnp.exp(log_end) @ jnp.arange(1.0, hidden.shape[1] + 1)
