"""Slots: how a gradient kernel keeps several hypotheses per question, and learns which of them is best.

A network answers a question with S slots of (value, score). A row trains one of them, which its *access* picks; the
scores learn asymmetrically, so that a slot's score tends to the best that was ever seen and not to the average.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Hypothesis
from thinking.types import Array, Box, Discrete, Metrics, Space

Access = Literal["value", "score"]

INITIAL_SCORE_LOGIT = -3.0
"""Logit of a new slot's score: about 0.05, so that what nobody taught does not win."""


class Slots(NamedTuple):
    """What a network answers.

    Attributes:
        values: [B, S, V] logits over V discrete values, or [B, S, D] vectors.
        scores: [B, S] logits; their sigmoid is the score.
    """

    values: Array
    scores: Array


_MARGIN = 0.1
"""A row that falls short of its slot's score by less still teaches its value in full: the score overshoots a little."""


class Learning(NamedTuple):
    """How slots learn; built by `value_access` or `score_access`.

    Attributes:
        access: "value" trains the slot whose value is most similar to the row's; "score" trains the slot
            `round(score * (S - 1))`.
        shortfall_weight: weight of a row whose score falls short of its slot's score, against 1 for one that surpasses it
            (the asymmetry of expectile regression, Newey & Powell 1987). 0 would never forget, 1 would average.
        score_weight: weight of the score's loss against the value's.
        penalty: weight with which every untouched slot's score is drawn to 0. Where a slot is touched by a share f of
            a question's rows, all of score s, its score comes to rest at `s f / (f + penalty (1 - f))`: a best answer
            that is too rare loses to a frequent good one.
    """

    access: Access
    shortfall_weight: float
    score_weight: float
    penalty: float


def value_access(*, shortfall_weight: float = 0.02, score_weight: float = 3.0, penalty: float = 0.01) -> Learning:
    """A row trains the slot whose value is most like its own: a slot comes to hold one value, and its best score."""
    return _validate(Learning("value", shortfall_weight, score_weight, penalty))


def score_access(*, shortfall_weight: float = 0.1, score_weight: float = 10.0, penalty: float = 0.1) -> Learning:
    """A row trains the slot of its score's level: a slot comes to hold the values that were that good.

    The scores then only tell which levels were ever reached, so what draws untouched ones down is stronger here.
    """
    return _validate(Learning("score", shortfall_weight, score_weight, penalty))


def _validate(learning: Learning) -> Learning:
    if not 0 <= learning.shortfall_weight <= 1:
        raise ValueError(f"shortfall_weight {learning.shortfall_weight}: allowed is 0 (never forget) to 1 (average)")
    if learning.score_weight < 0 or learning.penalty < 0:
        raise ValueError(
            f"score_weight {learning.score_weight}, penalty {learning.penalty}: allowed are numbers from 0"
        )
    return learning


def compute_slot_loss(
    learning: Learning, space: Space, slots: Slots, value: Array, score: Array
) -> tuple[Array, Metrics]:
    """Loss of each row, for values [B, ...] of `space` and scores [B].

    Returns:
        [B] losses, and the two parts of them, [B] each, named `value_loss` and `score_loss`.
    """
    count = slots.scores.shape[1]
    if learning.access == "value":
        chosen = jnp.argmin(_distances(space, jax.lax.stop_gradient(slots.values), value), axis=1)
    else:
        chosen = jnp.round(score * (count - 1)).astype(jnp.int32)
    touched = jax.nn.one_hot(chosen, count)
    # Only the chosen slot is differentiated. A product, as the gradient of a gather would be a slow scatter.
    said = jnp.sum(touched[..., None] * slots.values, axis=1, keepdims=True)
    predicted = jax.lax.stop_gradient(jnp.sum(touched * jax.nn.sigmoid(slots.scores), axis=1))
    eager = jnp.where(score > predicted - _MARGIN, 1.0, learning.shortfall_weight)
    value_loss = eager * _distances(space, said, value)[:, 0]
    pull = jnp.where(score > predicted, 1.0, learning.shortfall_weight)[:, None] * touched
    # Cross entropy to the row's score for the touched slot, and to 0 for the others: softplus(z) - target * z.
    rise = jax.nn.softplus(slots.scores)
    score_loss = jnp.sum(
        pull * (rise - score[:, None] * slots.scores) + learning.penalty * (1 - touched) * rise, axis=1
    )
    return value_loss + learning.score_weight * score_loss, {"value_loss": value_loss, "score_loss": score_loss}


def select_best_slot(space: Space, slots: Slots) -> Hypothesis:
    """The slot of the highest score, its value as an index or a vector."""
    best = jnp.argmax(slots.scores, axis=1)
    value = jnp.take_along_axis(slots.values, best[:, None, None], axis=1)[:, 0]
    if isinstance(space, Discrete):
        value = jnp.argmax(value, axis=-1).astype(jnp.int32)
    return Hypothesis(value, jax.nn.sigmoid(jnp.max(slots.scores, axis=1)))


def _distances(space: Space, values: Array, value: Array) -> Array:
    """[B, S] how far each slot is from the row's value: its surprise, or half the squared distance."""
    if isinstance(space, Box):
        return 0.5 * jnp.sum((values - value[:, None]) ** 2, axis=-1)
    wanted = jax.nn.one_hot(value, space.size)
    return jax.nn.logsumexp(values, axis=-1) - jnp.sum(values * wanted[:, None], axis=-1)
