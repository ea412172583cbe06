"""The slots' loss and the linear kernel, written down once more: in NumPy, a row and a slot at a time."""

import jax
import numpy as np

from thinking.kernels import Discrete


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, np.float64)))


def code(space, x):
    """One-hot for an index."""
    return np.eye(space.size)[int(x)] if isinstance(space, Discrete) else np.asarray(x, np.float64)


def distance(space, said, value):
    """How far what a slot says is from a value: minus its log-probability, or half the squared distance."""
    if isinstance(space, Discrete):
        return -np.log(np.exp(said[int(value)]) / np.exp(said).sum())
    return 0.5 * sum((a - b) ** 2 for a, b in zip(said, np.asarray(value, np.float64), strict=True))


def chosen_slot(learning, space, values, value, score):
    if learning.access == "score":
        return round(float(score) * (len(values) - 1))
    return int(np.argmin([distance(space, said, value) for said in values]))


def slot_loss(learning, space, values, scores, value, score):
    """The value's and the score's part for values [S, V] and the logits of scores [S]."""
    score = float(score)
    chosen, guesses = chosen_slot(learning, space, values, value, score), sigmoid(scores)
    # What falls short of its slot's score hardly counts; for the value, what falls short of it by a margin.
    weight = 1 if score > guesses[chosen] else learning.shortfall_weight
    score_loss = -weight * (score * np.log(guesses[chosen]) + (1 - score) * np.log(1 - guesses[chosen]))
    score_loss -= learning.penalty * sum(np.log(1 - guess) for slot, guess in enumerate(guesses) if slot != chosen)
    eager = 1 if score > guesses[chosen] - 0.1 else learning.shortfall_weight
    return eager * distance(space, values[chosen], value), score_loss


def linear_slots(params, spaces, items, length, target):
    """What a linear kernel of these parameters says: values [S, V] and the logits of scores [S]."""
    match = code(spaces.target, target) @ params["target_keys"]
    for place in range(len(items) - length, len(items)):
        match = match + code(spaces.input, items[place]) @ params["context_keys"][place]
    address = np.exp(match) / np.exp(match).sum()
    scores = address @ params["scores"]
    return (address @ params["values"]).reshape(len(scores), -1), scores


def linear_loss(learning, params, spaces, batch):
    """The mean of the rows, weighted by their mask: of the loss, of its value's part and of its score's."""
    parts, batch = [], jax.tree.map(np.asarray, batch)
    for row in range(len(batch.mask)):
        question = (batch.context.items[row], batch.context.length[row], batch.target[row])
        said = linear_slots(params, spaces, *question)
        parts.append(slot_loss(learning, spaces.value, *said, batch.value[row], batch.score[row]))
    value_loss, score_loss = np.average(parts, axis=0, weights=np.asarray(batch.mask, np.float64))
    return {"loss": value_loss + learning.score_weight * score_loss, "value_loss": value_loss, "score_loss": score_loss}
