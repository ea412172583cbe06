"""Training of a discrete autoencoder."""

import jax

from thinking.experiment import Run
from thinking.experiment.training_loop import TrainResult, train
from thinking.learning.optimizers import adamw, warmup_cosine
from thinking.recipes.thought_code.autoencoder import Autoencoder, autoencoder, make_autoencoder_step
from thinking.recipes.thought_code.config import Config
from thinking.train_state import TrainState, init_train_state

CHUNK = 50
"""Steps per chunk."""


def build_autoencoder(config: Config) -> Autoencoder:
    """The model of the config."""
    code = config.code
    return autoencoder(
        num_values=code.num_values,
        length=code.length,
        num_tokens=code.num_tokens,
        width=config.model.width,
        gradient=code.gradient,
    )


def train_autoencoder(config: Config, run: Run, model: Autoencoder, seed: int) -> TrainResult:
    """Train one model; the numbers are a function of seed and step. The state of the result is a `TrainState`.

    Raises:
        RunError: as `experiment.training_loop.train`.
    """
    steps, optimizer = config.training.num_steps, config.optimizer
    schedule = warmup_cosine(optimizer.learning_rate, steps, min(100, steps // 10), optimizer.final_fraction)
    adam = adamw(schedule, weight_decay=0.0)

    def init() -> TrainState:
        return init_train_state(jax.jit(model.init)(jax.random.key(seed)), adam)

    key, batch = jax.random.key(seed + 1), config.training.batch_size
    step = make_autoencoder_step(model, adam, num_values=config.code.num_values, batch_size=batch, key=key)
    return train(
        run, f"code-{seed}", init=init, step=step, num_steps=steps, chunk_size=CHUNK, progress_metric="exact_match"
    )
