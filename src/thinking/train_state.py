"""What learns by gradients, the one step that it takes, and the state of a training under way."""

from typing import NamedTuple

import optax

from thinking.types import Array, Params, State


class TrainState(NamedTuple):
    """Parameters and the state of their optimizer, with Flax's names.

    Attributes:
        params: a PyTree of arrays.
        opt_state: optax's state for them, which also counts the steps.
    """

    params: Params
    opt_state: optax.OptState


class RunnerState(NamedTuple):
    """All that a training needs to go on.

    What a training does not have is (), a PyTree without leaves.

    Attributes:
        train_state: parameters and optimizer.
        key: typed PRNG key, of everything random. A training whose step gets an index never changes it, and folds the
            index in; one whose step gets none splits it at every step.
        sampler: state of the index sampler or the curriculum.
        reference: parameters that the policy is held near, or compared with.
        env: environments that run along, with what is counted of them.
    """

    train_state: TrainState
    key: Array
    sampler: State = ()
    reference: Params = ()
    env: State = ()


def init_train_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params))


def apply_gradients(state: TrainState, optimizer: optax.GradientTransformation, gradients: Params) -> TrainState:
    """The state after one step of its optimizer.

    Args:
        state: before the step.
        optimizer: that `init_train_state` was given.
        gradients: of what is minimised, a PyTree like the parameters.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return TrainState(optax.apply_updates(state.params, updates), opt_state)
