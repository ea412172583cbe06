"""Reference in NumPy for the loss of slots and the linear kernel, one row and one slot at a time."""

import jax
import numpy as np

from thinking.kernels import Discrete


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, np.float64)))


def to_vector(space, x):
    """One-hot for an index."""
    return np.eye(space.size)[int(x)] if isinstance(space, Discrete) else np.asarray(x, np.float64)


def compute_distance(space, slot_value, value):
    """The distance of a slot's value from a value: minus its log-probability, or half the squared distance."""
    if isinstance(space, Discrete):
        return -np.log(np.exp(slot_value[int(value)]) / np.exp(slot_value).sum())
    return 0.5 * sum((a - b) ** 2 for a, b in zip(slot_value, np.asarray(value, np.float64), strict=True))


def select_slot(learning, space, values, value, score):
    if learning.access == "score":
        return round(float(score) * (len(values) - 1))
    return int(np.argmin([compute_distance(space, slot_value, value) for slot_value in values]))


def compute_slot_loss(learning, space, values, scores, value, score):
    """The value loss and the score loss, for values [S, V] and score logits [S]."""
    score = float(score)
    selected, slot_scores = select_slot(learning, space, values, value, score), sigmoid(scores)
    # Rows below their slot's score have a low weight; for the value loss, rows below it by a margin.
    weight = 1 if score > slot_scores[selected] else learning.shortfall_weight
    score_loss = -weight * (score * np.log(slot_scores[selected]) + (1 - score) * np.log(1 - slot_scores[selected]))
    score_loss -= learning.penalty * sum(
        np.log(1 - slot_score) for slot, slot_score in enumerate(slot_scores) if slot != selected
    )
    value_weight = 1 if score > slot_scores[selected] - 0.1 else learning.shortfall_weight
    return value_weight * compute_distance(space, values[selected], value), score_loss


def compute_linear_slots(params, spaces, items, length, target):
    """The slots of a linear kernel: values [S, V] and score logits [S]."""
    logits = to_vector(spaces.target, target) @ params["target_keys"]
    for index in range(len(items) - length, len(items)):
        logits = logits + to_vector(spaces.input, items[index]) @ params["context_keys"][index]
    weights = np.exp(logits) / np.exp(logits).sum()
    scores = weights @ params["scores"]
    return (weights @ params["values"]).reshape(len(scores), -1), scores


def compute_linear_loss(learning, params, spaces, batch):
    """The loss, its value part and its score part: means over the rows, weighted by their mask."""
    parts, batch = [], jax.tree.map(np.asarray, batch)
    for row in range(len(batch.mask)):
        query = (batch.context.items[row], batch.context.length[row], batch.target[row])
        slots = compute_linear_slots(params, spaces, *query)
        parts.append(compute_slot_loss(learning, spaces.value, *slots, batch.value[row], batch.score[row]))
    value_loss, score_loss = np.average(parts, axis=0, weights=np.asarray(batch.mask, np.float64))
    return {"loss": value_loss + learning.score_weight * score_loss, "loss/value": value_loss, "loss/score": score_loss}
