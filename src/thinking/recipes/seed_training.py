"""Training of all seeds at once.

Axes: S seeds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.recipes.groups import SeedsConfig
from thinking.types import Array, Latest, Measured


def make_seed_keys(config: SeedsConfig) -> Array:
    """[S] a typed key for each seed."""
    return jax.vmap(jax.random.key)(jnp.arange(config.seeds, dtype=jnp.uint32) + jnp.uint32(config.seed))


def train_seeds(
    config: SeedsConfig,
    run: Run,
    stage: str,
    *,
    init: Callable,
    step: Callable,
    steps: int,
    chunk: int,
    progress_metric: str,
) -> TrainResult:
    """Train all seeds at once by vmap; metrics are means over seeds.

    Args:
        config, run, stage: the seeds, the run, and the name of the stage.
        init: `init(key) -> state` of one seed.
        step: `step(state, index) -> (state, metrics)` of one seed.
        steps, chunk: number of steps, and steps per chunk.
        progress_metric: a `Measured` metric; `PROGRESS_METRIC_std_over_seeds` is its spread.

    Returns:
        The result; the state's leaves are [S, ...].
    """

    def step_all(state: Any, index: Array) -> tuple[Any, dict[str, Array]]:
        state, metrics = jax.vmap(step, (0, None))(state, index)
        measured = metrics[progress_metric]
        std = Measured(jnp.std(measured.value), jnp.all(measured.is_measured))
        return state, {name: _average_over_seeds(metric) for name, metric in metrics.items()} | {
            f"{progress_metric}_std_over_seeds": std
        }

    @jax.jit  # so that it is traced once for its shapes and for its values
    def init_seeds(keys: Array) -> Any:
        # One seed after another: on two cores, XLA's CPU backend may wait for ever in several batched QR decompositions
        # (of orthogonal initial weights) beside other work.
        return jax.lax.map(init, keys)

    def init_all() -> Any:
        return init_seeds(make_seed_keys(config))

    return train(
        run, stage, init=init_all, step=step_all, num_steps=steps, chunk_size=chunk, progress_metric=progress_metric
    )


def _average_over_seeds(metric: Array | Measured | Latest) -> Array | Measured | Latest:
    """The mean of a metric (leaves [S]) over the seeds that measured it."""
    if not isinstance(metric, Measured):
        return jax.tree.map(jnp.mean, metric)
    total = jnp.sum(jnp.where(metric.is_measured, metric.value, 0))
    return Measured(total / jnp.maximum(jnp.sum(metric.is_measured), 1), jnp.any(metric.is_measured))
