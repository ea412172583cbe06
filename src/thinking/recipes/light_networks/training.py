"""Training of a network on a problem, of words that grow.

Axes: B rows, T tokens.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from thinking.environments.sequences import LabelledSequence, SequenceFamily
from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.networks.decoder import Decoder
from thinking.recipes.light_networks.config import Config
from thinking.recipes.light_networks.evaluation import compute_accuracy
from thinking.recipes.light_networks.model import build_network
from thinking.recipes.light_networks.problem_families import Problem, make_problem
from thinking.train_state import TrainState, apply_gradients, init_train_state
from thinking.types import Array, Metrics, Params

CHUNK = 50
"""Steps per chunk."""
RATE_SEED = 10_000
"""Added to the seed where learning rates are compared."""
_SUCCESS_DECAY = 0.95
_EVAL_KEY_OFFSET = 2**31
"""A fold-in offset that no step index reaches."""


class LevelState(NamedTuple):
    """The state of training.

    Attributes:
        train_state: parameters and optimizer.
        ema_params: exponential moving average of the parameters, which is evaluated.
        level: [] int32, symbols of a word.
        success: [] float32, moving average of the accuracy at the last symbol of words of this level.
    """

    train_state: TrainState
    ema_params: Params
    level: Array
    success: Array


def sample_rows(family: SequenceFamily, key: Array, max_size: int, levels_B: Array) -> LabelledSequence:
    """A batch of rows, of a level each; consumes the key."""
    keys = jax.random.split(key, len(levels_B))
    return jax.vmap(lambda each, level: family.sample(each, max_size, level))(keys, levels_B)


def train_network(
    config: Config, run: Run, name: str, problem_name: str, seed: int, learning_rate: float
) -> TrainResult:
    """Train one network; the state of the result is a `LevelState`.

    Raises:
        RunError: as `experiment.training_loop.train`.
    """
    problem = make_problem(config, problem_name)
    network, steps = build_network(config, name, problem_name), config.training.num_steps
    schedule = warmup_cosine(learning_rate, steps, min(100, steps // 10), 0.1)
    optimizer, batch_size = adamw(schedule, weight_decay=0.01), config.training.batch_size
    key = jax.random.key(seed)
    level_key, noise_key = (jax.random.fold_in(key, _EVAL_KEY_OFFSET + n) for n in (1, 2))

    def init(key: Array) -> LevelState:
        level = jnp.int32(min(2, problem.size) if problem.levels == "growing" else problem.size)
        params = network.init(key)
        return LevelState(init_train_state(params, optimizer), params, level, jnp.float32(0))

    def step(state: LevelState, index: Array) -> tuple[LevelState, Metrics]:
        levels = _choose_levels(problem, jax.random.fold_in(level_key, index), batch_size, state.level)
        rows = sample_rows(problem.family, jax.random.fold_in(key, index), problem.size, levels)
        gradients, metrics = jax.grad(make_loss(network), has_aux=True)(
            state.train_state.params,
            rows,
            jax.random.fold_in(noise_key, index),
            # Full noise on short words would keep the network from longer ones.
            noise_scale=state.level / problem.size,
        )
        train_state = apply_gradients(state.train_state, optimizer, gradients)
        level, success = _advance_level(state, metrics["last_accuracy"], problem.size, config.curriculum.threshold)
        metrics |= {"grad_norm": optax.tree.norm(gradients), "curriculum/level": state.level.astype(jnp.float32)}
        ema_params = optax.incremental_update(train_state.params, state.ema_params, 1 - config.optimizer.ema_decay)
        return LevelState(train_state, ema_params, level, success), metrics

    return train(
        run,
        f"{problem_name}-{name.replace('+', '_')}-{learning_rate:g}-{seed}",
        init=lambda: jax.jit(init)(key),
        step=step,
        num_steps=steps,
        chunk_size=CHUNK,
        progress_metric="accuracy",
    )


def choose_learning_rate(config: Config, run: Run, name: str, problem_name: str) -> float:
    """The learning rate whose network, of another seed, is most accurate at the trained size."""
    rates = config.optimizer.learning_rates
    if len(rates) == 1:
        return rates[0]
    seed = config.seed + RATE_SEED

    def measure(rate: float) -> float:
        params = train_network(config, run, name, problem_name, seed, rate).state.ema_params
        return compute_accuracy(
            build_network(config, name, problem_name), params, make_test(config, problem_name, seed, 1)
        )

    return max(rates, key=measure)


def make_test(config: Config, problem_name: str, seed: int, factor: int) -> LabelledSequence:
    """New rows of `factor` times the trained size."""
    problem = make_problem(config, problem_name)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _EVAL_KEY_OFFSET), factor)
    size = problem.size * factor
    levels = jnp.full(config.eval.num_rows, size, jnp.int32)
    return jax.jit(lambda key: sample_rows(problem.family, key, size, levels))(key)


def _choose_levels(problem: Problem, key: Array, num_rows: int, level: Array) -> Array:
    """[B] the levels of a batch; consumes the key."""
    if problem.levels != "mixed":
        return jnp.full(num_rows, level)
    exponents = jax.random.randint(key, (num_rows,), 1, max(2, math.ceil(math.log2(problem.size)) + 1))
    return jnp.minimum(2**exponents, problem.size)


def make_loss(network: Decoder) -> Callable[..., tuple[Array, Metrics]]:
    """`loss(params, rows, key=None, noise_scale=1.0) -> (loss, metrics)`, with noise on states where there is a key.

    The metric `last_accuracy` is of the last tokens of all whole problems.
    """

    def loss(
        params: Params, rows: LabelledSequence, key: Array | None = None, noise_scale: Array | float = 1.0
    ) -> tuple[Array, Metrics]:
        logits = network.apply(params, rows.tokens, segments=rows.segments, key=key, noise_scale=noise_scale).logits
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows.targets)
        is_right = jnp.argmax(logits, axis=-1) == rows.targets
        num_asked = jnp.sum(rows.weights)
        # Problems of a row are equally long, but for one that is cut off, whose last token does not count.
        length = jnp.sum(rows.segments == 1, axis=1, keepdims=True)
        is_last = jnp.arange(1, rows.segments.shape[1] + 1)[None] % length == 0
        metrics = {
            "loss": jnp.sum(rows.weights * losses) / num_asked,
            "accuracy": jnp.sum(rows.weights * is_right) / num_asked,
            "last_accuracy": jnp.sum(is_last * is_right) / jnp.sum(is_last),
        }
        return metrics["loss"], metrics

    return loss


def _advance_level(state: LevelState, accuracy: Array, size: int, threshold: float) -> tuple[Array, Array]:
    """Words become twice as long once the last symbols of shorter ones are mostly right."""
    success = _SUCCESS_DECAY * state.success + (1 - _SUCCESS_DECAY) * accuracy
    is_mastered = (success > threshold) & (state.level < size)
    return (
        jnp.where(is_mastered, jnp.minimum(2 * state.level, size), state.level),
        jnp.where(is_mastered, 0.0, success),
    )
