"""The base of gradient kernels: turns a slot network into a kernel."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.kernels.contract import (
    Context,
    Hypothesis,
    Kernel,
    Spaces,
    Transition,
    checked_kernel,
)
from thinking.kernels.slots import Learning, Slots, compute_slot_loss, select_best_slot
from thinking.train_state import RunnerState, apply_gradients, init_train_state
from thinking.types import Array, Metrics, State


class SlotNetwork(NamedTuple):
    """A slot network as pure functions.

    Attributes:
        init: `init(key) -> params`.
        apply: `apply(params, context, target, dropout_key) -> Slots`; no dropout without a key. Padding of the context
            is zero.
    """

    init: Callable[[Array], State]
    apply: Callable[[State, Context, Array, Array | None], Slots]


def gradient_kernel(
    name: str,
    network: SlotNetwork,
    *,
    spaces: Spaces,
    context_length: int,
    optimizer: optax.GradientTransformation,
    learning: Learning,
) -> Kernel:
    """A kernel whose `fit` is one optimizer step on the weighted mean loss.

    Its state is a `RunnerState`, whose key is for dropout. Metrics of `fit`: `loss`, `loss/value` and `loss/score`,
    weighted means over the batch.

    Raises:
        ValueError: if the context length is below 1.
    """

    def init(key: Array) -> RunnerState:
        params_key, dropout_key = jax.random.split(key)
        return RunnerState(init_train_state(network.init(params_key), optimizer), dropout_key)

    def loss(params: State, batch: Transition, key: Array) -> tuple[Array, Metrics]:
        slots = network.apply(params, batch.context, batch.target, key)
        losses, parts = compute_slot_loss(learning, spaces.value, slots, batch.value, batch.score)
        weight = batch.mask / jnp.maximum(jnp.sum(batch.mask), jnp.finfo(jnp.float32).tiny)
        mean = {name: jnp.sum(weight * value) for name, value in {"loss": losses, **parts}.items()}
        return mean["loss"], mean

    def fit(state: RunnerState, batch: Transition) -> tuple[RunnerState, Metrics]:
        key, dropout_key = jax.random.split(state.key)
        gradients, metrics = jax.grad(loss, has_aux=True)(state.train_state.params, batch, dropout_key)
        fitted = RunnerState(apply_gradients(state.train_state, optimizer, gradients), key)
        # An empty batch must not change the optimizer's momentum either.
        is_nonempty = jnp.any(batch.mask > 0)
        return jax.tree.map(lambda new, old: jnp.where(is_nonempty, new, old), fitted, state), metrics

    def infer(state: RunnerState, context: Context, target: Array) -> Hypothesis:
        return select_best_slot(spaces.value, network.apply(state.train_state.params, context, target, None))

    return checked_kernel(name, init, fit, infer, spaces, context_length)
