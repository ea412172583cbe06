"""What learns by gradients, and how it takes a step."""

from typing import NamedTuple

import optax

from thinking.types import Params


class Learner(NamedTuple):
    """Parameters and their optimizer.

    Attributes:
        params: a PyTree of arrays.
        optimizer: optax's state for them, which also counts the steps.
    """

    params: Params
    optimizer: optax.OptState


def stepped(learner: Learner, optimizer: optax.GradientTransformation, gradients: Params) -> Learner:
    """The learner after one step of its optimizer."""
    updates, state = optimizer.update(gradients, learner.optimizer, learner.params)
    return Learner(optax.apply_updates(learner.params, updates), state)
