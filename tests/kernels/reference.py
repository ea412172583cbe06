"""The slots' loss and the linear kernel, written down once more: in NumPy, a row and a slot at a time."""

import jax
import numpy as np

from thinking.kernels import Discrete


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, np.float64)))


def code(space, x):
    """One-hot for an index."""
    return np.eye(space.size)[int(x)] if isinstance(space, Discrete) else np.asarray(x, np.float64)


def distance(space, slot_value, value):
    """How far what a slot says is from a value: minus its log-probability, or half the squared distance."""
    if isinstance(space, Discrete):
        return -np.log(np.exp(slot_value[int(value)]) / np.exp(slot_value).sum())
    return 0.5 * sum((a - b) ** 2 for a, b in zip(slot_value, np.asarray(value, np.float64), strict=True))


def chosen_slot(learning, space, values, value, score):
    if learning.access == "score":
        return round(float(score) * (len(values) - 1))
    return int(np.argmin([distance(space, slot_value, value) for slot_value in values]))


def slot_loss(learning, space, values, scores, value, score):
    """The value's and the score's part for values [S, V] and the logits of scores [S]."""
    score = float(score)
    chosen, slot_scores = chosen_slot(learning, space, values, value, score), sigmoid(scores)
    # What falls short of its slot's score hardly counts; for the value, what falls short of it by a margin.
    weight = 1 if score > slot_scores[chosen] else learning.shortfall_weight
    score_loss = -weight * (score * np.log(slot_scores[chosen]) + (1 - score) * np.log(1 - slot_scores[chosen]))
    score_loss -= learning.penalty * sum(
        np.log(1 - slot_score) for slot, slot_score in enumerate(slot_scores) if slot != chosen
    )
    value_weight = 1 if score > slot_scores[chosen] - 0.1 else learning.shortfall_weight
    return value_weight * distance(space, values[chosen], value), score_loss


def linear_slots(params, spaces, items, length, target):
    """What a linear kernel of these parameters says: values [S, V] and the logits of scores [S]."""
    logits = code(spaces.target, target) @ params["target_keys"]
    for index in range(len(items) - length, len(items)):
        logits = logits + code(spaces.input, items[index]) @ params["context_keys"][index]
    weights = np.exp(logits) / np.exp(logits).sum()
    scores = weights @ params["scores"]
    return (weights @ params["values"]).reshape(len(scores), -1), scores


def linear_loss(learning, params, spaces, batch):
    """The mean of the rows, weighted by their mask: of the loss, of its value's part and of its score's."""
    parts, batch = [], jax.tree.map(np.asarray, batch)
    for row in range(len(batch.mask)):
        query = (batch.context.items[row], batch.context.length[row], batch.target[row])
        slot_value = linear_slots(params, spaces, *query)
        parts.append(slot_loss(learning, spaces.value, *slot_value, batch.value[row], batch.score[row]))
    value_loss, score_loss = np.average(parts, axis=0, weights=np.asarray(batch.mask, np.float64))
    return {"loss": value_loss + learning.score_weight * score_loss, "loss/value": value_loss, "loss/score": score_loss}
