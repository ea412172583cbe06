"""Training of recursive networks: the loss is taken every few steps, and the latent state is carried on.

An update thinks `grad_steps` steps and learns from the answer after them. No gradient flows further back. Each puzzle
stays for `num_updates` updates, so the network learns to go on from its own states, and to keep an answer once it has
it (deep supervision with carried state, Wang et al. 2025, Jolicoeur-Martineau 2025). Progressive training (Bansal et
al. 2022) begins each update with new puzzles and a random number of steps without gradient.

Axes: B rows, N cells, D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.networks.recursion import CellInputs, RecursiveNetwork
from thinking.train_state import TrainState, apply_gradients, init_train_state
from thinking.types import Array, Metrics, Params


class CellBatch(NamedTuple):
    """Examples.

    Attributes:
        inputs: of B rows.
        targets: [B, N] int32, the answer at each cell.
    """

    inputs: CellInputs
    targets: Array


SampleFn = Callable[[Array, int], CellBatch]
"""`sample(key, num_rows) -> CellBatch`; consumes the key."""


class DeepSupervisionState(NamedTuple):
    """The state of training.

    Attributes:
        train_state: parameters and optimizer.
        ema_params: an exponential moving average of the parameters, with which to evaluate.
        batch: the current puzzles; () in progressive training.
        latent: [B, N, D], their latent states; () in progressive training.
    """

    train_state: TrainState
    ema_params: Params
    batch: CellBatch | tuple[()]
    latent: Array | tuple[()]


class DeepSupervision(NamedTuple):
    """Training as two pure functions.

    Attributes:
        init: `init(key) -> DeepSupervisionState`; consumes the key.
        step: `step(state, key) -> (state, metrics)`; consumes the key.
    """

    init: Callable[[Array], DeepSupervisionState]
    step: Callable[[DeepSupervisionState, Array], tuple[DeepSupervisionState, Metrics]]


def deep_supervision(
    network: RecursiveNetwork,
    optimizer: optax.GradientTransformation,
    sample: SampleFn,
    *,
    batch_size: int,
    grad_steps: int,
    num_updates: int,
    progressive: bool = False,
    noise: float = 0.0,
    ema_decay: float = 0.99,
    confidence_weight: float = 0.1,
) -> DeepSupervision:
    """Deep supervision of a recursive network.

    Args:
        network: the network.
        optimizer: an optax transformation.
        sample: makes examples.
        batch_size: B, a multiple of `num_updates`: each update replaces equally many puzzles.
        grad_steps: steps of an update.
        num_updates: updates that each puzzle stays for; with `progressive`, up to `num_updates - 1` times `grad_steps`
            steps come before those with a gradient.
        progressive: whether each update begins with new puzzles.
        noise: standard deviation of what is added to each number of the latent state before an update.
        ema_decay: of the averaged parameters, 0 to below 1.
        confidence_weight: weight of the loss of the confidence head.

    Raises:
        ValueError: if a count is below 1, or `num_updates` does not divide `batch_size` (unless `progressive`).
    """
    for name, count in {"batch_size": batch_size, "grad_steps": grad_steps, "num_updates": num_updates}.items():
        if count < 1:
            raise ValueError(f"deep_supervision: {name} {count} is out of range; give at least 1")
    if not progressive and batch_size % num_updates:
        raise ValueError(
            f"deep_supervision: batch_size {batch_size} is no multiple of num_updates {num_updates}; "
            f"take {max(1, batch_size // num_updates) * num_updates}"
        )

    def init(key: Array) -> DeepSupervisionState:
        params_key, batch_key = jax.random.split(key)
        params = network.init(params_key)
        train_state = init_train_state(params, optimizer)
        if progressive:
            return DeepSupervisionState(train_state, params, (), ())
        batch = sample(batch_key, batch_size)
        return DeepSupervisionState(train_state, params, batch, network.init_latent(params, batch.inputs))

    def loss(params: Params, latent: Array, batch: CellBatch) -> tuple[Array, tuple[Array, Metrics]]:
        latent = _iterate(network, params, latent, batch.inputs, grad_steps)
        output = network.predict(params, latent)
        is_right = output.answer == batch.targets
        answer_loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(output.logits, batch.targets))
        confidence_loss = jnp.mean(optax.sigmoid_binary_cross_entropy(output.confidence, is_right))
        is_solved = jnp.all(is_right, axis=1)
        metrics = {
            "loss/answer": answer_loss,
            "loss/confidence": confidence_loss,
            "cell_accuracy": jnp.mean(is_right),
            "exact_match": jnp.mean(is_solved),
        }
        return answer_loss + confidence_weight * confidence_loss, (latent, metrics)

    def begin(state: DeepSupervisionState, key: Array) -> tuple[CellBatch, Array]:
        """The puzzles of an update, and their latent states."""
        if not progressive:
            return state.batch, state.latent
        sample_key, depth_key = jax.random.split(key)
        batch, params = sample(sample_key, batch_size), state.train_state.params
        depth = jax.random.randint(depth_key, (), 0, (num_updates - 1) * grad_steps + 1)
        latent = network.init_latent(params, batch.inputs)
        return batch, _iterate(network, params, latent, batch.inputs, depth)

    def replace(params: Params, batch: CellBatch, latent: Array, key: Array) -> tuple[CellBatch, Array]:
        """The oldest rows, which come first, make way for new ones, which go last."""
        num_new = batch_size // num_updates
        new = sample(key, num_new)
        rows = batch, latent
        new_rows = new, network.init_latent(params, new.inputs)
        return jax.tree.map(lambda old, leaf: jnp.concatenate([old[num_new:], leaf]), rows, new_rows)

    def step(state: DeepSupervisionState, key: Array) -> tuple[DeepSupervisionState, Metrics]:
        begin_key, noise_key, new_key = jax.random.split(key, 3)
        batch, latent = begin(state, begin_key)
        if noise:
            latent = latent + noise * jax.random.normal(noise_key, latent.shape)
        latent = jax.lax.stop_gradient(latent)
        gradients, (latent, metrics) = jax.grad(loss, has_aux=True)(state.train_state.params, latent, batch)
        train_state = apply_gradients(state.train_state, optimizer, gradients)
        ema_params = optax.incremental_update(train_state.params, state.ema_params, 1 - ema_decay)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        if progressive:
            return DeepSupervisionState(train_state, ema_params, (), ()), metrics
        return DeepSupervisionState(
            train_state, ema_params, *replace(train_state.params, batch, latent, new_key)
        ), metrics

    return DeepSupervision(init, step)


def _iterate(
    network: RecursiveNetwork, params: Params, latent: Array, inputs: CellInputs, num_steps: int | Array
) -> Array:
    """The latent state after more steps; differentiable where their number is a Python integer."""
    return jax.lax.fori_loop(0, num_steps, lambda _, state: network.step(params, state, inputs), latent)
