"""The state of training, and one optimizer step."""

from typing import Any, NamedTuple

import jax
import optax

from thinking.types import Array, Params, State


class TrainState(NamedTuple):
    """Parameters and optimizer state, named as in Flax.

    Attributes:
        params: a PyTree of arrays.
        opt_state: optax's state, which also counts the steps.
    """

    params: Params
    opt_state: optax.OptState


class RunnerState(NamedTuple):
    """All that training needs to continue. A part that is not used is (), a PyTree without leaves.

    Attributes:
        train_state: parameters and optimizer.
        key: typed PRNG key. A training step that takes an index folds it in and never changes the key; one that takes
            none splits the key at every step.
        sampler: state of the index sampler or the curriculum.
        reference: parameters of the reference policy.
        env: states and statistics of the environments.
        best: the best parameters so far, and how good they are.
    """

    train_state: TrainState
    key: Array
    sampler: State = ()
    reference: Params = ()
    env: State = ()
    best: State = ()


def init_train_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params))


def apply_gradients(state: TrainState, optimizer: optax.GradientTransformation, gradients: Params) -> TrainState:
    """The state after one optimizer step.

    Args:
        state: before the step.
        optimizer: the one of `init_train_state`.
        gradients: of the loss, a PyTree like the parameters.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return TrainState(optax.apply_updates(state.params, updates), opt_state)


def drop_training(tree: Any) -> Any:
    """A PyTree whose `RunnerState`s hold the parameters of their train states alone, and nothing of `best`."""

    def drop(part: Any) -> Any:
        is_state = isinstance(part, RunnerState)
        return RunnerState(TrainState(part.train_state.params, ()), ()) if is_state else part

    return jax.tree.map(drop, tree, is_leaf=lambda part: isinstance(part, RunnerState))
