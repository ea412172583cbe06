"""Probes of thoughts: their dependence on the input, and their relation to the true states of an automaton.

Axes: B words, N symbols of the longest, T thoughts, K thought tokens, S states, D width.
"""

from typing import Any

import jax
import jax.numpy as jnp

from thinking.learning.statistics import clear_masked, masked_mean
from thinking.reasoning.thoughts.thinking_model import ThinkingModel, ThinkingOutput
from thinking.types import Array, Params

WordBatch = Any
"""Words with `symbols` [B, N], `lengths` [B], `states` [B, N] and `final_states` [B], int32."""


def compute_accuracy(model: ThinkingModel, params: Params, words: WordBatch) -> Array:
    """[] accuracy of the answers."""
    output = model.think(params, words.symbols, words.lengths)
    return jnp.mean((jnp.argmax(output.answer_logits, axis=-1) == words.final_states).astype(jnp.float32))


def compute_dependence(model: ThinkingModel, params: Params, words: WordBatch, other_symbols: Array) -> Array:
    """[N, N] change of the hidden state of each step (row) when each symbol (column) is replaced.

    Args:
        model: the model.
        params: its parameters.
        words: all of length N.
        other_symbols: [B, N] int32, replacements, one at a time.

    Returns:
        The mean norm of the change over the mean norm of the difference between two words at the same step; 0 for a
        step that does not depend on the symbol.
    """
    hidden = model.think(params, words.symbols, words.lengths).hidden
    mean_distance = jnp.mean(jnp.linalg.norm(hidden - jnp.roll(hidden, 1, axis=0), axis=-1), axis=0)

    def compute_change(position: Array) -> Array:
        symbols = words.symbols.at[:, position].set(other_symbols[:, position])
        new_hidden = model.think(params, symbols, words.lengths).hidden
        return jnp.mean(jnp.linalg.norm(new_hidden - hidden, axis=-1), axis=0) / jnp.maximum(mean_distance, 1e-6)

    return jax.lax.map(compute_change, jnp.arange(words.symbols.shape[1])).T


def compute_confusion(output: ThinkingOutput, states: Array, num_states: int) -> Array:
    """[K, S] counts of pairs of thought token and true state; `states` is [B, N] and S is `num_states`."""
    tokens = jax.nn.one_hot(output.thoughts, output.logits.shape[2]) * output.thought_mask[..., None]
    return jnp.einsum("btk,bts->ks", tokens, jax.nn.one_hot(states[:, : tokens.shape[1]], num_states))


def compute_explained_variance(output: ThinkingOutput, states: Array, num_states: int) -> Array:
    """[] fraction of the hidden states' variance explained by the true states [B, N], 0 to 1.

    It is the variance between states over the total variance, about the mean of each step, so that the position
    explains nothing. Random states explain about `num_states / B`.
    """
    weight = output.thought_mask.astype(jnp.float32)
    hidden, mask = output.hidden[:, : weight.shape[1]], weight[..., None]
    hidden = clear_masked(hidden - masked_mean(hidden, jnp.broadcast_to(mask, hidden.shape), 0, keepdims=True), mask)
    membership = jax.nn.one_hot(states[:, : weight.shape[1]], num_states) * mask
    counts = jnp.maximum(jnp.sum(membership, axis=0), 1)
    means = jnp.einsum("bts,btd->tsd", membership, hidden) / counts[..., None]
    between_variance = jnp.sum(counts[..., None] * means**2)
    return between_variance / jnp.maximum(jnp.sum(hidden**2), jnp.finfo(jnp.float32).tiny)
