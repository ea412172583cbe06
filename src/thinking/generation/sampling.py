"""How the next token is drawn from what a model says.

Axes: B rows, V words of the vocabulary.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from thinking.types import Array


@dataclass(frozen=True)
class Sampling:
    """What is done to logits before a token is drawn, in this order; the defaults do nothing.

    Attributes:
        repetition_penalty: logits of words that the row already holds are divided by it where positive, multiplied
            where negative (Keskar et al. 2019); from 1.
        temperature: logits are divided by it; 0 takes the likeliest word.
        top_k: only the k likeliest words stay, and those as likely as the last of them; all at 0 (Fan et al. 2018).
        top_p: only the likeliest words stay that together reach this probability, and those as likely as the last of
            them (Holtzman et al. 2020).
        min_p: only words stay that are at least this times as likely as the likeliest (Nguyen et al. 2024).
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed, fine in (
            ("repetition_penalty", "a finite number from 1", 1 <= self.repetition_penalty < math.inf),
            (
                "temperature",
                "0, or a finite number from 1e-6",
                self.temperature == 0 or 1e-6 <= self.temperature < math.inf,
            ),
            ("top_k", "a whole number from 0, which keeps all words", self.top_k >= 0),
            ("top_p", "above 0 to 1", 0 < self.top_p <= 1),
            ("min_p", "0 to 1", 0 <= self.min_p <= 1),
        ):
            if not fine:
                raise ValueError(f"sampling: {name} {getattr(self, name)}: allowed is {allowed}")

    @property
    def needs_token_mask(self) -> bool:
        """Whether it matters which words a row already holds."""
        return self.repetition_penalty != 1


def process_logits(sampling: Sampling, logits: Array, token_mask: Array) -> Array:
    """Logits [B, V] as they are drawn from, -inf for words that are out.

    Args:
        sampling: what is done; temperature 0 leaves the likeliest word alone.
        logits: [B, V].
        token_mask: [B, V] bool, words that the row already holds.
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
        logits = _drop_below(logits, _find_nucleus_edge(logits, sampling.top_p))
    if sampling.min_p > 0:
        logits = _drop_below(logits, jnp.max(logits, axis=-1, keepdims=True) + math.log(sampling.min_p))
    return logits


def sample_tokens(sampling: Sampling, key: Array, logits: Array, token_mask: Array) -> Array:
    """[B] int32 words, drawn; consumes the key.

    One random number a row falls into one of the words' shares of the whole. To draw one for every word, as
    `jax.random.categorical` does, takes five times as long on a CPU, as long as half of a small decoder's step.
    """
    drawn_from = process_logits(sampling, logits, token_mask)
    if sampling.temperature == 0:
        return jnp.argmax(drawn_from, axis=-1).astype(jnp.int32)
    shares = jnp.exp(drawn_from - jnp.max(drawn_from, axis=-1, keepdims=True))
    reached = jnp.cumsum(shares, axis=-1)
    whole = reached[:, -1:]
    point = jax.random.uniform(key, whole.shape) * whole
    word = jax.lax.broadcasted_iota(jnp.int32, shares.shape, 1)
    found = jnp.min(jnp.where((reached > point) & (shares > 0), word, shares.shape[1]), axis=-1)
    # Sums of rounded numbers may fall short of the point, or stir where no word is: then it is the last one.
    return jnp.minimum(found, jnp.max(jnp.where(shares > 0, word, 0), axis=-1))


def _drop_below(logits: Array, edge: Array) -> Array:
    return jnp.where(logits >= edge, logits, -jnp.inf)


def _find_nucleus_edge(logits: Array, top_p: float) -> Array:
    """[B, 1] the lowest logit of the smallest set of likeliest words that together reach `top_p`."""
    ordered = -jnp.sort(-logits, axis=-1)
    share = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(share, axis=-1) - share
    return jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
