"""How the next token is sampled from logits.

Axes: B rows, V vocabulary size.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from thinking.types import Array


@dataclass(frozen=True)
class Sampling:
    """Processing of logits before sampling, in this order; the defaults do nothing.

    Attributes:
        repetition_penalty: logits of tokens already in the row are divided by it where positive, multiplied where
            negative (Keskar et al. 2019); from 1.
        temperature: logits are divided by it; 0 is greedy.
        top_k: keeps the k likeliest tokens and ties of the last; all at 0 (Fan et al. 2018).
        top_p: keeps the smallest set of likeliest tokens that reaches this probability, and ties of the last (Holtzman
            et al. 2020).
        min_p: keeps tokens at least this times as likely as the likeliest (Nguyen et al. 2024).
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed, is_allowed in (
            ("repetition_penalty", "a finite number from 1", 1 <= self.repetition_penalty < math.inf),
            (
                "temperature",
                "0, or a finite number from 1e-6",
                self.temperature == 0 or 1e-6 <= self.temperature < math.inf,
            ),
            ("top_k", "a whole number from 0, which keeps all tokens", self.top_k >= 0),
            ("top_p", "above 0 to 1", 0 < self.top_p <= 1),
            ("min_p", "0 to 1", 0 <= self.min_p <= 1),
        ):
            if not is_allowed:
                raise ValueError(f"sampling: {name} {getattr(self, name)}: allowed is {allowed}")

    @property
    def needs_token_mask(self) -> bool:
        """Whether it matters which tokens a row already has."""
        return self.repetition_penalty != 1


def process_logits(sampling: Sampling, logits: Array, token_mask: Array) -> Array:
    """The logits [B, V] that are sampled from, -inf for excluded tokens.

    `token_mask` [B, V] bool are the tokens already in the row.
    """
    if sampling.needs_token_mask:
        penalty = sampling.repetition_penalty
        logits = jnp.where(token_mask, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)
    if sampling.temperature == 0:
        likeliest = jnp.argmax(logits, axis=-1)
        return jnp.where(jax.nn.one_hot(likeliest, logits.shape[-1], dtype=bool), logits, -jnp.inf)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        logits = _drop_below(logits, jax.lax.top_k(logits, sampling.top_k)[0][:, -1:])
    if sampling.top_p < 1:
        logits = _drop_below(logits, _find_top_p_threshold(logits, sampling.top_p))
    if sampling.min_p > 0:
        logits = _drop_below(logits, jnp.max(logits, axis=-1, keepdims=True) + math.log(sampling.min_p))
    return logits


def split_by_row(key: Array, num_rows: int) -> Array:
    """[B] keys, one a row: those given, or one key folded with the index of each row.

    A row that samples with a key of its own samples the same tokens in any batch.

    Raises:
        ValueError: for another number of keys.
    """
    if key.ndim == 0:
        return fold_in_rows(key, jnp.arange(num_rows))
    if key.shape != (num_rows,):
        raise ValueError(
            f"sampling: there are keys of shape {key.shape} for {num_rows} rows; give one key, or one a row"
        )
    return key


def fold_in_rows(keys: Array, numbers: Array) -> Array:
    """[B] keys, each folded with a number; either the keys or the numbers may be a single one."""
    return jax.vmap(jax.random.fold_in, (0 if keys.ndim else None, 0 if jnp.ndim(numbers) else None))(keys, numbers)


def sample_tokens(sampling: Sampling, keys: Array, logits: Array, token_mask: Array) -> Array:
    """[B] int32 sampled tokens; consumes the keys [B], so that no row depends on another.

    Inverse transform sampling with one random number a row. One for every token, as in `jax.random.categorical`, takes
    five times as long on a CPU, as long as half of a small decoder's step.
    """
    processed = process_logits(sampling, logits, token_mask)
    if sampling.temperature == 0:
        return jnp.argmax(processed, axis=-1).astype(jnp.int32)
    weights = jnp.exp(processed - jnp.max(processed, axis=-1, keepdims=True))
    cumulative = jnp.cumsum(weights, axis=-1)
    total = cumulative[:, -1:]
    point = jax.vmap(jax.random.uniform)(keys)[:, None] * total
    token = jax.lax.broadcasted_iota(jnp.int32, weights.shape, 1)
    sampled = jnp.min(jnp.where((cumulative > point) & (weights > 0), token, weights.shape[1]), axis=-1)
    # Rounded sums may fall short of the point, or grow at an excluded token: then take the last token of any weight.
    return jnp.minimum(sampled, jnp.max(jnp.where(weights > 0, token, 0), axis=-1))


def _drop_below(logits: Array, threshold: Array) -> Array:
    return jnp.where(logits >= threshold, logits, -jnp.inf)


def _find_top_p_threshold(logits: Array, top_p: float) -> Array:
    """[B, 1] the lowest logit of the smallest set of likeliest tokens that together reach `top_p`."""
    ordered = -jnp.sort(-logits, axis=-1)
    probability = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probability, axis=-1) - probability
    return jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
