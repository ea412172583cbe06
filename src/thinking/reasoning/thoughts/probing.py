"""What thoughts are: what they depend on, and how they go with the true states.

Axes: B words, N symbols of the longest, T thoughts, K kinds of thoughts, S states, D width.
"""

from typing import Any

import jax
import jax.numpy as jnp

from thinking.reasoning.thoughts.thinking_model import ThinkingModel, ThinkingOutput
from thinking.types import Array, Params

WordBatch = Any
"""Words with `symbols` [B, N], `lengths` [B], `states` [B, N] and `answers` [B], int32."""


def compute_accuracy(model: ThinkingModel, params: Params, words: WordBatch) -> Array:
    """[] the share of words whose likeliest answer is right."""
    thinking = model.think(params, words.symbols, words.lengths)
    return jnp.mean((jnp.argmax(thinking.answer_logits, axis=-1) == words.answers).astype(jnp.float32))


def compute_dependence(model: ThinkingModel, params: Params, words: WordBatch, other_symbols: Array) -> Array:
    """[N, N], how far the step of each row moves when the symbol of each column is another one.

    Args:
        model: that thinks.
        params: its parameters.
        words: all of length N.
        other_symbols: [B, N] int32, symbols to put in their place, one at a time.

    Returns:
        The mean length of the change of the hidden state, as a share of the mean length of the difference between two
        words' hidden states after the same step; 0 for a step that did not look.
    """
    before = model.think(params, words.symbols, words.lengths).hidden
    strangers = jnp.mean(jnp.linalg.norm(before - jnp.roll(before, 1, axis=0), axis=-1), axis=0)

    def moved(place: Array) -> Array:
        symbols = words.symbols.at[:, place].set(other_symbols[:, place])
        after = model.think(params, symbols, words.lengths).hidden
        return jnp.mean(jnp.linalg.norm(after - before, axis=-1), axis=0) / jnp.maximum(strangers, 1e-6)

    return jax.lax.map(moved, jnp.arange(words.symbols.shape[1])).T


def compute_confusion(output: ThinkingOutput, states: Array, num_states: int) -> Array:
    """[K, S] how often each token was thought where the true state, of S = `num_states`, was each; `states` is [B, N]."""
    tokens = jax.nn.one_hot(output.thoughts, output.logits.shape[2]) * output.thought_mask[..., None]
    return jnp.einsum("btk,bts->ks", tokens, jax.nn.one_hot(states[:, : tokens.shape[1]], num_states))


def compute_explained_variance(output: ThinkingOutput, states: Array, num_states: int) -> Array:
    """[] the share of the variance of the steps' hidden states that their true states explain, 0 to 1.

    It is that between the means of the states of `states` [B, N], of which there are `num_states`. Each step counts about
    its own mean, since where it stands is no thought. States that mean nothing explain about `count / B`.
    """
    weight = output.thought_mask.astype(jnp.float32)
    hidden = output.hidden[:, : weight.shape[1]]
    total = jnp.maximum(jnp.sum(weight, axis=0), 1)[:, None]
    hidden = (hidden - (jnp.sum(hidden * weight[..., None], axis=0) / total)[None]) * weight[..., None]
    member = jax.nn.one_hot(states[:, : weight.shape[1]], num_states) * weight[..., None]
    sizes = jnp.maximum(jnp.sum(member, axis=0), 1)
    means = jnp.einsum("bts,btd->tsd", member, hidden) / sizes[..., None]
    between = jnp.sum(sizes[..., None] * means**2)
    return between / jnp.maximum(jnp.sum(hidden**2), jnp.finfo(jnp.float32).tiny)
