"""The parameters of a model that thinks, and the steps that it takes.

Axes: B words, N symbols of the longest, A answers, K kinds of thoughts, D width.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from thinking.networks.blocks import BlockConfig, dense
from thinking.reasoning.thoughts.network import Memory, Reader
from thinking.types import Array

Kind = Literal["none", "pause", "discrete", "continuous"]
"""What a step hands to the next: there is one step alone; nothing (Goyal et al. 2024); a token of a vocabulary of its
own; its hidden state (Hao et al. 2024), and with it the mixture of all tokens (Zhang et al. 2025, Soft Thinking)."""

Choice = Literal["straight_through", "gumbel", "drawn"]
"""How a token is chosen, and what its gradient is: the likeliest, as if it were its probabilities (Bengio et al. 2013);
the likeliest under Gumbel noise, in the same way (Jang et al. 2017); drawn, with no gradient at all."""

Told = tuple[Array, Array, Array, Array]
"""Of one step: tokens, log-probabilities and entropy [B], and logits [B, K]."""


class Network(nnx.Module):
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
        ends: bool,
        split: bool,
        rngs: nnx.Rngs,
    ) -> None:
        normal, width = nnx.initializers.normal, block.width
        narrow = thought_width or width
        self.words = nnx.Embed(symbols, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.empty = nnx.Embed(1, width, embedding_init=normal(width**-0.5), rngs=rngs)
        self.thoughts = nnx.Embed(kinds, narrow, embedding_init=normal(width**-0.5), rngs=rngs)
        self.widen = None if thought_width is None else dense(narrow, width, block, rngs)
        self.reader = Reader(block, layers, rngs)
        self.answer = nnx.Linear(width, answers, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs)
        self.choose = self.answer
        if own_head:
            self.choose = nnx.Linear(width, kinds, use_bias=False, kernel_init=normal(width**-0.5), rngs=rngs)
        # At first it thinks on.
        seldom = nnx.initializers.constant(-3.0)
        self.end = nnx.Linear(width, 1, kernel_init=normal(0.01), bias_init=seldom, rngs=rngs) if ends else None
        self.answerer = Reader(block, layers, rngs) if split else None

    def nothing(self, rows: int) -> Array:
        """[B, D], what is given to a step that no thought is given to: the first one, and all those of pauses."""
        return self.empty(jnp.zeros(rows, jnp.int32))

    def thought(self, weights: Array) -> Array:
        """[B, D], the embeddings of tokens, weighted by [B, K]."""
        mixed = weights @ self.thoughts.embedding[...]
        return mixed if self.widen is None else self.widen(mixed)

    def last_look(self, given: Array, lengths: Array, words: Array | None) -> Array:
        """[B, D], what the answer is read from where it is found in a context of its own.

        Args:
            given: [B, N, D], what the steps thought; those of a word's length count.
            lengths: [B] int32.
            words: [B, N, D], embedded symbols that are seen beside the thoughts; None: thoughts alone.
        """
        seen = given if words is None else jnp.concatenate([words, given], axis=1)
        numbers = jnp.arange(given.shape[1], dtype=jnp.int32)
        places = jnp.tile(numbers, (len(given), seen.shape[1] // len(numbers)))
        reader = self.reader if self.answerer is None else self.answerer
        memory = reader.read(seen, places, places < lengths[:, None], 1)
        return reader.step(memory, self.nothing(len(given)), lengths - 1, jnp.int32(seen.shape[1]))[0]


def nothing_told(rows: int, kinds: int) -> Told:
    """Of a step that chose no token."""
    return jnp.zeros(rows, jnp.int32), jnp.zeros(rows), jnp.zeros(rows), jnp.zeros((rows, kinds))


def take_steps(
    built: Network,
    kind: Kind,
    choice: Choice,
    memory: Memory,
    needed: Array,
    keys: Array | None,
    changed: Array,
    kinds: int,
) -> tuple[Array, Array, Told]:
    """Hidden states and what was handed on, [B, N, D] both, and what is told of each step, [B, N, ...].

    Args:
        built: the parameters.
        kind: of thoughts, not `none`.
        choice: how tokens are chosen where there are keys.
        memory: of the words, with room for N steps.
        needed: [] int32, steps after which nothing is done, since no word needs them.
        keys: [N], consumed; None: each token is the likeliest.
        changed: [N, B] int32, tokens to choose instead, where not negative.
        kinds: K.
    """
    longest, rows = changed.shape

    def onward(hidden: Array, key: Array | None, token: Array) -> tuple[Array, Told]:
        if kind == "pause":
            return built.nothing(rows), nothing_told(rows, kinds)
        if kind == "continuous":
            # The hidden state is made as long as an embedding is at the start; the norm made it as long as the root
            # of its width. Alone it was never learned from beyond words of two symbols of A5.
            mixture = built.thought(jax.nn.softmax(built.choose(hidden)))
            return kept_at_random(hidden, key) * hidden.shape[1] ** -0.5 + mixture, nothing_told(rows, kinds)
        weights, told = chosen(built.choose(hidden), choice, key, token)
        return built.thought(weights), told

    def step(carried: tuple[Memory, Array], at: tuple) -> tuple[tuple[Memory, Array], tuple[Array, Array, Told]]:
        number, key, token = at
        hidden, memory = built.reader.step(*carried, jnp.full(rows, number), longest + number)
        given, told = onward(hidden, key, token)
        return (memory, given), (hidden, given, told)

    def skip(carried: tuple[Memory, Array], at: tuple) -> tuple[tuple[Memory, Array], tuple[Array, Array, Told]]:
        del at
        nothing = jnp.zeros_like(carried[1])
        return carried, (nothing, nothing, nothing_told(rows, kinds))

    def step_if_needed(carried: tuple[Memory, Array], at: tuple) -> tuple[Any, Any]:
        # A curriculum begins with words much shorter than the longest.
        return jax.lax.cond(at[0] < needed, step, skip, carried, at)

    numbers = jnp.arange(longest, dtype=jnp.int32)
    taken = jax.lax.scan(step_if_needed, (memory, built.nothing(rows)), (numbers, keys, changed))[1]
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), taken)


def answer_at_once(built: Network, memory: Memory, lengths: Array, longest: int, kinds: int) -> tuple[Array, Told]:
    """The same of a model that takes one step alone, where the word ends; all other hidden states are 0."""
    rows = len(lengths)
    hidden = built.reader.step(memory, built.nothing(rows), lengths - 1, jnp.int32(longest))[0]
    told = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], longest, axis=1), nothing_told(rows, kinds))
    return jax.nn.one_hot(lengths - 1, longest)[:, :, None] * hidden[:, None], told


def kept_at_random(hidden: Array, key: Array | None) -> Array:
    """Hidden states [B, D] of which half, drawn at random, become 0; all of them stay where there is no key.

    Dropout of whole vectors (Srivastava et al. 2014), unscaled: so the mixture of tokens learns to carry a thought by
    itself. Where the hidden states were always there, one seed of three came to a code that wore off with the steps.
    """
    if key is None:
        return hidden
    return jnp.where(jax.random.bernoulli(key, shape=(len(hidden), 1)), hidden, 0)


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


def log_ends(logits: Array, *, drawn: bool) -> Array:
    """[B, N] float32, the log-probability that thinking ends after each step; the last always ends it.

    Args:
        logits: [B, N], of `<end_thought>` against another thought, after each step.
        drawn: whether it ends at random; else after the first step that would rather end.
    """
    last = jnp.arange(logits.shape[1])[None] == logits.shape[1] - 1
    if not drawn:
        first = jnp.argmax((logits > 0) | last, axis=1)
        return jnp.log(jax.nn.one_hot(first, logits.shape[1]))
    going = jnp.cumsum(jax.nn.log_sigmoid(-logits), axis=1)
    ending = jnp.where(last, 0.0, jax.nn.log_sigmoid(logits))
    return ending + jnp.pad(going[:, :-1], ((0, 0), (1, 0)))


def answer_over_ends(
    built: Network, hidden: Array, lengths: Array, free: Array | None, *, drawn: bool
) -> tuple[Array, Array]:
    """Log-probabilities of the answers over all ends of thinking [B, A], and how many steps it takes in the mean [B].

    Args:
        built: the parameters.
        hidden: [B, N, D], after each step.
        lengths: [B] int32, of the words.
        free: [B] bool, where the model says when it ends; elsewhere it ends with the word. None: everywhere.
        drawn: whether thinking ends at random; else after the first step that would rather end.
    """
    log_end = log_ends(built.end(hidden)[:, :, 0], drawn=drawn)
    if free is not None:
        log_end = jnp.where(free[:, None], log_end, jnp.log(jax.nn.one_hot(lengths - 1, hidden.shape[1])))
    answers = jax.nn.logsumexp(log_end[:, :, None] + jax.nn.log_softmax(built.answer(hidden)), axis=1)
    return answers, jnp.exp(log_end) @ jnp.arange(1.0, hidden.shape[1] + 1)
