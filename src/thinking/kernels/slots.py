"""Slots: several hypotheses per query in a gradient kernel, and how it learns which is best.

A network returns S slots of (value, score). A training example updates one slot, selected by *access*. Scores learn
asymmetrically, so a slot's score tends to the best ever seen rather than to the average.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from thinking.kernels.contract import Hypothesis
from thinking.types import Array, Box, Discrete, Metrics, Space

Access = Literal["value", "score"]

INITIAL_SCORE_LOGIT = -3.0
"""Initial logit of a slot's score: about 0.05, so that untrained slots do not win."""


class Slots(NamedTuple):
    """A network's output.

    Attributes:
        values: [B, S, V] logits over V discrete values, or [B, S, D] vectors.
        scores: [B, S] logits; their sigmoid is the score.
    """

    values: Array
    scores: Array


_MARGIN = 0.1
"""Examples within this margin below the slot's score train the value at full weight."""


class Learning(NamedTuple):
    """How slots learn; built by `value_access` or `score_access`.

    Attributes:
        access: "value" trains the slot whose value is most similar to the example's; "score" trains the slot
            `round(score * (S - 1))`.
        shortfall_weight: weight of an example whose score falls short of its slot's score, against 1 for one that
            surpasses it (the asymmetry of expectile regression, Newey & Powell 1987). 0 never forgets, 1 averages.
        score_weight: weight of the score loss against the value loss.
        penalty: weight with which scores of unselected slots are pulled to 0. Where a slot is selected by a fraction f
            of a query's rows, all of score s, its score converges to `s f / (f + penalty (1 - f))`: a best value that
            is too rare loses to a frequent good one.
    """

    access: Access
    shortfall_weight: float
    score_weight: float
    penalty: float


def value_access(*, shortfall_weight: float = 0.02, score_weight: float = 3.0, penalty: float = 0.01) -> Learning:
    """An example trains the slot of the most similar value: a slot comes to hold one value and its best score."""
    return _validate(Learning("value", shortfall_weight, score_weight, penalty))


def score_access(*, shortfall_weight: float = 0.1, score_weight: float = 10.0, penalty: float = 0.1) -> Learning:
    """An example trains the slot of its score level: a slot comes to hold the values of that score.

    Scores then only tell which levels were ever reached, so the penalty on unselected slots is larger.
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
    """[B] losses for values [B, ...] of `space` and scores [B], and their parts `loss/value` and `loss/score`."""
    count = slots.scores.shape[1]
    if learning.access == "value":
        slot = jnp.argmin(_distances(space, jax.lax.stop_gradient(slots.values), value), axis=1)
    else:
        slot = jnp.round(score * (count - 1)).astype(jnp.int32)
    is_selected = jax.nn.one_hot(slot, count)
    # Only the selected slot gets a gradient. A product: the gradient of a gather is a slow scatter.
    predicted_value = jnp.sum(is_selected[..., None] * slots.values, axis=1, keepdims=True)
    # It is only compared with, so no gradient passes through it.
    predicted_score = jnp.sum(is_selected * jax.nn.sigmoid(slots.scores), axis=1)
    value_weight = jnp.where(score > predicted_score - _MARGIN, 1.0, learning.shortfall_weight)
    value_loss = value_weight * _distances(space, predicted_value, value)[:, 0]
    score_pull = jnp.where(score > predicted_score, 1.0, learning.shortfall_weight)[:, None] * is_selected
    # Cross entropy to the row's score for the selected slot, and to 0 for the others: softplus(z) - target * z.
    softplus = jax.nn.softplus(slots.scores)
    score_loss = jnp.sum(
        score_pull * (softplus - score[:, None] * slots.scores) + learning.penalty * (1 - is_selected) * softplus,
        axis=1,
    )
    return value_loss + learning.score_weight * score_loss, {"loss/value": value_loss, "loss/score": score_loss}


def select_best_slot(space: Space, slots: Slots) -> Hypothesis:
    """The slot of the highest score; its value as an index or a vector."""
    best = jnp.argmax(slots.scores, axis=1)
    value = jnp.take_along_axis(slots.values, best[:, None, None], axis=1)[:, 0]
    if isinstance(space, Discrete):
        value = jnp.argmax(value, axis=-1).astype(jnp.int32)
    return Hypothesis(value, jax.nn.sigmoid(jnp.max(slots.scores, axis=1)))


def _distances(space: Space, values: Array, value: Array) -> Array:
    """[B, S] distance of each slot to the example's value: negative log-likelihood, or half the squared distance."""
    if isinstance(space, Box):
        return 0.5 * jnp.sum((values - value[:, None]) ** 2, axis=-1)
    target = jax.nn.one_hot(value, space.size)
    return jax.nn.logsumexp(values, axis=-1) - jnp.sum(values * target[:, None], axis=-1)
