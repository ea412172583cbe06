"""The network of a thinking model and its steps.

Axes: B words, N symbols of the longest, A answers, K thought tokens, D width.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, linear_layer
from thinking.reasoning.thoughts.reader import Reader, ReaderCache
from thinking.types import Array

Kind = Literal["none", "pause", "discrete", "continuous"]
"""What a step passes to the next: `none`, there is one step only; `pause`, nothing (Goyal et al. 2024); `discrete`, a
thought token; `continuous`, its hidden state (Hao et al. 2024) plus the expected token embedding (Soft Thinking, Zhang
et al. 2025)."""

GradientEstimator = Literal["straight_through", "gumbel", "sampled"]
"""How a thought token is chosen: argmax with straight-through gradient (Bengio et al. 2013); straight-through
Gumbel-softmax (Jang et al. 2017); `sampled`, sampled without gradient."""

ThoughtOutput = tuple[Array, Array, Array, Array]
"""The output of one step: tokens, their log-probabilities and entropy in nats [B], and logits [B, K]."""


class ThinkingNetwork(nnx.Module):
    """The parameters, the same for every kind of thought; arguments as of `thinking_model`."""

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
        separate_blocks: bool,
        rngs: nnx.Rngs,
    ) -> None:
        normal, width = nnx.initializers.normal, block.width
        embedding_width = width if thought_width is None else thought_width
        self.symbol_embedding = nnx.Embed(num_symbols, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.empty_embedding = nnx.Embed(1, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.thought_embedding = nnx.Embed(
            num_thought_tokens, embedding_width, embedding_init=normal(width**-0.5), rngs=rngs
        )
        self.thought_proj = None if thought_width is None else linear_layer(embedding_width, width, block, rngs)
        self.reader = Reader(block, num_layers, rngs)
        self.answer_head = nnx.Linear(width, num_answers, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs)
        self.thought_head = self.answer_head
        if has_own_head:
            self.thought_head = nnx.Linear(
                width, num_thought_tokens, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs
            )
        # The initial probability of an end is low.
        end_bias = nnx.initializers.constant(-3.0)
        self.end_head = (
            nnx.Linear(width, 1, kernel_init=normal(0.01), bias_init=end_bias, rngs=rngs) if end_thought else None
        )
        self.answer_reader = Reader(block, num_layers, rngs) if separate_blocks else None

    def empty_input(self, batch_size: int) -> Array:
        """[B, D] input of a step without a thought: the first one, and every pause step."""
        return self.empty_embedding(jnp.zeros(batch_size, jnp.int32))

    def embed_thought(self, weights: Array) -> Array:
        """[B, D] sum of token embeddings with weights [B, K]."""
        embedding = weights @ self.thought_embedding.embedding[...]
        return embedding if self.thought_proj is None else self.thought_proj(embedding)

    def compute_final_hidden(self, thoughts: Array, lengths: Array, symbols: Array | None) -> Array:
        """[B, D] hidden state of an answer that is computed in a separate context.

        Args:
            thoughts: [B, N, D], embedded thoughts, valid up to `lengths`.
            lengths: [B] int32, of the words.
            symbols: [B, N, D], embedded symbols; None for a context of thoughts only.
        """
        inputs = thoughts if symbols is None else jnp.concatenate([symbols, thoughts], axis=1)
        indices = jnp.arange(thoughts.shape[1], dtype=jnp.int32)
        positions = jnp.tile(indices, (len(thoughts), inputs.shape[1] // len(indices)))
        reader = self.reader if self.answer_reader is None else self.answer_reader
        cache = reader.read(inputs, positions, positions < lengths[:, None], 1)
        return reader.step(cache, self.empty_input(len(thoughts)), lengths - 1, jnp.int32(inputs.shape[1]))[0]


def empty_thought_output(batch_size: int, num_thought_tokens: int) -> ThoughtOutput:
    """Output of a step without a token: zeros."""
    return (
        jnp.zeros(batch_size, jnp.int32),
        jnp.zeros(batch_size),
        jnp.zeros(batch_size),
        jnp.zeros((batch_size, num_thought_tokens)),
    )


def take_steps(
    network: ThinkingNetwork,
    kind: Kind,
    gradient: GradientEstimator,
    cache: ReaderCache,
    num_needed: Array,
    keys: Array | None,
    forced_tokens: Array,
    num_thought_tokens: int,
) -> tuple[Array, Array, ThoughtOutput]:
    """Hidden states and embedded thoughts, [B, N, D] both, and the thought outputs, [B, N, ...].

    Args:
        network: the network.
        kind: kind of thoughts, not `none`.
        gradient: how tokens are chosen if there are keys.
        cache: of the words, with N free slots.
        num_needed: [] int32, number of steps to compute; later ones give zeros.
        keys: [N], consumed; None: argmax tokens.
        forced_tokens: [N, B] int32, tokens to use instead, where not negative.
        num_thought_tokens: K.
    """
    max_length, batch_size = forced_tokens.shape

    def make_next_input(hidden: Array, key: Array | None, token: Array) -> tuple[Array, ThoughtOutput]:
        if kind == "pause":
            return network.empty_input(batch_size), empty_thought_output(batch_size, num_thought_tokens)
        if kind == "continuous":
            # The scale gives the normalised hidden state the norm of an initial embedding. Without the mixture,
            # training on A5 fails beyond words of two symbols.
            mixture = network.embed_thought(jax.nn.softmax(network.thought_head(hidden)))
            return drop_hidden_states(hidden, key) * hidden.shape[1] ** -0.5 + mixture, empty_thought_output(
                batch_size, num_thought_tokens
            )
        weights, thought_output = choose_token(network.thought_head(hidden), gradient, key, token)
        return network.embed_thought(weights), thought_output

    def step(
        carry: tuple[ReaderCache, Array], inputs: tuple
    ) -> tuple[tuple[ReaderCache, Array], tuple[Array, Array, ThoughtOutput]]:
        index, key, token = inputs
        hidden, cache = network.reader.step(*carry, jnp.full(batch_size, index), max_length + index)
        next_input, thought_output = make_next_input(hidden, key, token)
        return (cache, next_input), (hidden, next_input, thought_output)

    def skip(
        carry: tuple[ReaderCache, Array], inputs: tuple
    ) -> tuple[tuple[ReaderCache, Array], tuple[Array, Array, ThoughtOutput]]:
        del inputs
        zeros = jnp.zeros_like(carry[1])
        return carry, (zeros, zeros, empty_thought_output(batch_size, num_thought_tokens))

    def step_if_needed(carry: tuple[ReaderCache, Array], inputs: tuple) -> tuple[Any, Any]:
        # Early in a curriculum, words are much shorter than N.
        return jax.lax.cond(inputs[0] < num_needed, step, skip, carry, inputs)

    indices = jnp.arange(max_length, dtype=jnp.int32)
    outputs = jax.lax.scan(step_if_needed, (cache, network.empty_input(batch_size)), (indices, keys, forced_tokens))[1]
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), outputs)


def answer_at_once(
    network: ThinkingNetwork, cache: ReaderCache, lengths: Array, max_length: int, num_thought_tokens: int
) -> tuple[Array, ThoughtOutput]:
    """Hidden states [B, N, D], 0 except at the last symbol, and empty thought outputs of a single step there."""
    batch_size = len(lengths)
    hidden = network.reader.step(cache, network.empty_input(batch_size), lengths - 1, jnp.int32(max_length))[0]
    thought_output = jax.tree.map(
        lambda leaf: jnp.repeat(leaf[:, None], max_length, axis=1), empty_thought_output(batch_size, num_thought_tokens)
    )
    return jax.nn.one_hot(lengths - 1, max_length)[:, :, None] * hidden[:, None], thought_output


def drop_hidden_states(hidden: Array, key: Array | None) -> Array:
    """Hidden states [B, D], each set to 0 with probability 0.5 if there is a key.

    Unscaled dropout of whole vectors (Srivastava et al. 2014), so that the token mixture alone can carry a thought.
    Without it, one seed of three learned a code that degrades with the number of steps.
    """
    if key is None:
        return hidden
    return jnp.where(jax.random.bernoulli(key, shape=(len(hidden), 1)), hidden, 0)


def choose_token(
    logits: Array, gradient: GradientEstimator, key: Array | None, forced_tokens: Array
) -> tuple[Array, ThoughtOutput]:
    """One-hot weights [B, K] of the chosen tokens, with the gradient of the estimator, and the thought output.

    Args:
        logits: [B, K].
        gradient: how tokens are chosen if there is a key.
        key: consumed; None: argmax.
        forced_tokens: [B] int32, tokens to use instead, where not negative.
    """
    noisy_logits = logits
    if key is not None and gradient != "straight_through":
        noisy_logits = logits + jax.random.gumbel(key, logits.shape)
    token = jnp.where(forced_tokens < 0, jnp.argmax(noisy_logits, axis=-1), forced_tokens).astype(jnp.int32)
    weights = jax.nn.one_hot(token, logits.shape[1])
    if gradient != "sampled":
        probs = jax.nn.softmax(noisy_logits)
        weights = weights + probs - jax.lax.stop_gradient(probs)
    log_probs = jax.nn.log_softmax(logits)
    token_log_probs = jnp.take_along_axis(log_probs, token[:, None], axis=1)[:, 0]
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=1)
    return weights, (token, token_log_probs, entropy, logits)


def compute_end_log_probs(logits: Array, *, is_sampled: bool) -> Array:
    """[B, N] float32, log-probabilities that thinking ends after each step; it ends after the last in any case.

    Args:
        logits: [B, N], binary logits of the end after each step.
        is_sampled: whether the end is random; otherwise it is the first step of positive logit.
    """
    is_last = jnp.arange(logits.shape[1])[None] == logits.shape[1] - 1
    if not is_sampled:
        first = jnp.argmax((logits > 0) | is_last, axis=1)
        return jnp.log(jax.nn.one_hot(first, logits.shape[1]))
    log_continue = jnp.cumsum(jax.nn.log_sigmoid(-logits), axis=1)
    log_end = jnp.where(is_last, 0.0, jax.nn.log_sigmoid(logits))
    return log_end + jnp.pad(log_continue[:, :-1], ((0, 0), (1, 0)))


def marginalize_over_ends(
    network: ThinkingNetwork, hidden: Array, lengths: Array, can_end: Array | None, *, is_sampled: bool
) -> tuple[Array, Array]:
    """Log-probabilities of the answers [B, A], marginalised over all ends, and the expected number of steps [B].

    Args:
        network: the network.
        hidden: [B, N, D], after each step.
        lengths: [B] int32, of the words.
        can_end: [B] bool, where the model chooses the end; elsewhere n symbols take n steps. None: everywhere.
        is_sampled: as of `compute_end_log_probs`.
    """
    log_end = compute_end_log_probs(network.end_head(hidden)[:, :, 0], is_sampled=is_sampled)
    if can_end is not None:
        log_end = jnp.where(can_end[:, None], log_end, jnp.log(jax.nn.one_hot(lengths - 1, hidden.shape[1])))
    answers = jax.nn.logsumexp(log_end[:, :, None] + jax.nn.log_softmax(network.answer_head(hidden)), axis=1)
    return answers, jnp.exp(log_end) @ jnp.arange(1.0, hidden.shape[1] + 1)
