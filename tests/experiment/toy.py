"""A toy task: linear regression with dropout. Its state has every kind of leaf that a state may have."""

import dataclasses
import os
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from thinking.errors import UserError
from thinking.experiment import RunConfig, main, option


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Fit a line.

    A second paragraph.
    """

    steps: int = option(200, "number of training steps", affects_weights=False)
    width: int = option(4, "number of inputs")
    edge_probability: float = option(0.1, "probability that an input is dropped")
    kind: Literal["mean", "sum"] = option("mean", "how the loss is reduced")
    aliased: bool = option(False, "whether names are shared")
    plan: tuple[str, str] | None = option(None, "two names", affects_weights=False)
    nan_at: int | None = option(None, "step whose loss is not a number", affects_weights=False)
    spoil_at: int | None = option(None, "step that spoils the weights after its loss", affects_weights=False)
    ballast: int = option(1, "number of floats that nothing touches")
    data: Path | None = option(None, "a file or folder that is read")

    def validate(self) -> None:
        if self.width < 1:
            raise UserError(f"--width {self.width}: allowed is 1 or more; take --width 4")


PRESETS = {"default": Config(), "smoke": Config(steps=20, width=2)}
CHUNK_SIZE = 10


def true_weights(config):
    import jax.numpy as jnp

    return jnp.arange(config.width, dtype=jnp.float32)


def init(config):
    import jax
    import jax.numpy as jnp
    import optax

    weights = jnp.zeros(config.width)
    return {
        "weights": weights,
        "shared": weights,  # two leaves share one buffer
        "optimizer": optax.adam(3e-2).init(weights),
        "key": jax.random.key(config.seed, impl="rbg"),
        "count": 0,
        "weak": jnp.asarray(1.0),
        "none": (None, jnp.zeros((0, 3))),
        "half": jnp.ones(2, jnp.bfloat16),
        "never_seen": jnp.full(2, -jnp.inf),
        "ballast": jax.random.normal(jax.random.key(1), (config.ballast,)),
    }


def step(config, state, index):
    import jax
    import jax.numpy as jnp
    import optax

    key, dropout_key = jax.random.split(state["key"])
    inputs = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), index), (16, config.width))
    keep_mask = jax.random.bernoulli(dropout_key, 1 - config.edge_probability, inputs.shape)

    def loss_fn(weights):
        return jnp.mean((jnp.where(keep_mask, inputs, 0) @ weights - inputs @ true_weights(config)) ** 2)

    loss, grads = jax.value_and_grad(loss_fn)(state["weights"])
    updates, optimizer = optax.adam(3e-2).update(grads, state["optimizer"])
    weights = optax.apply_updates(state["weights"], updates)
    if config.nan_at is not None:
        loss = jnp.where(index == config.nan_at, jnp.nan, loss)
    if config.spoil_at is not None:
        weights = jnp.where(index == config.spoil_at, jnp.nan, weights)
    new_leaves = {"weights": weights, "optimizer": optimizer, "key": key, "count": state["count"] + 1}
    return {**state, **new_leaves}, {"loss": loss, "count": state["count"]}


def run(config, run):
    from thinking.experiment.results import write_results
    from thinking.experiment.training_loop import train

    functions = {"init": partial(init, config), "step": partial(step, config)}
    result = train(run, "fit", **functions, num_steps=config.steps, chunk_size=CHUNK_SIZE, progress_metric="loss")
    write_results(run, [{"name": "toy", "final_count": result.state["count"]}], result.state, ratio=0.5)


def run_main(*flags: str, run=run) -> None:
    """Run the task's command line in this process."""
    argv, sys.argv = sys.argv, ["tasks/toy.py", *flags]
    try:
        main("toy", run, PRESETS)
    finally:
        sys.argv = argv


def run_process(flags: list[str], output: Path, frequent_saves: bool = True) -> None:
    """Run the task's command line as the main function of a process, with its output in a file."""
    from thinking.experiment import checkpoint

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    if frequent_saves:
        checkpoint.MIN_SECONDS_BETWEEN_SAVES, checkpoint.MAX_TIME_FRACTION = 0.02, 1.0
    if flags[0] == "--stuck":
        run_main("--artifacts", str(output.parent), run=partial(block_main_thread, Path(flags[1])))
    else:
        run_main(*flags)


def block_main_thread(ready_file: Path, config, run) -> None:
    """Block the main thread outside of Python, as a busy device does, so that no signal handler runs."""
    import ctypes

    from thinking.experiment import interruption

    with interruption.hold_signals():
        ready_file.touch()
        for _ in range(3):  # a signal ends a sleep early
            ctypes.CDLL(None).sleep(20)


if __name__ == "__main__":
    main("toy", run, PRESETS)
