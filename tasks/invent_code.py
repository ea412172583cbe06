"""Discrete autoencoders: a number is encoded as a few tokens, and decoded from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinking.experiment import Run, main
from thinking.recipes.thought_code.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from thinking.experiment.training_loop import TrainResult
    from thinking.recipes.thought_code.autoencoder import Autoencoder

CHUNK = 50
"""Steps per chunk."""
COLUMNS = {
    "seed": "seed",
    "num_values": "numbers",
    "code_length": "tokens of a code",
    "num_tokens": "kinds of token",
    "exact_match": "decoded, %",
    "num_distinct_codes": "codes in use",
}
"""Of the table on the terminal."""


def run(config: Config, run: Run) -> None:
    """Train a model of every seed, and write its accuracy and number of codes."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.thought_code.autoencoder import autoencoder

    code = config.code
    model = autoencoder(
        num_values=code.num_values,
        length=code.length,
        num_tokens=code.num_tokens,
        width=config.model.width,
        gradient=code.gradient,
    )
    seeds = range(config.seed, config.seed + config.seeds)
    trained = {seed: train_autoencoder(config, run, model, seed) for seed in seeds}
    plots.plot_learning_curves(run, ["loss", "exact_match"])
    rows = [evaluate(config, model, seed, stage) for seed, stage in trained.items()]
    decoded = sum(row["exact_match"] for row in rows) / len(rows)
    write_results(
        run,
        rows,
        {f"code-{seed}": stage.state for seed, stage in trained.items()},
        headline=f"{100 * decoded:.1f} % of {code.num_values} numbers are decoded from {code.length} tokens",
        columns=COLUMNS,
    )


def train_autoencoder(config: Config, run: Run, model: Autoencoder, seed: int) -> TrainResult:
    """Train one model; the numbers are a function of seed and step."""
    import jax

    from thinking.experiment.training_loop import train
    from thinking.learning.optimizers import adamw, warmup_cosine
    from thinking.recipes.thought_code.autoencoder import make_autoencoder_step
    from thinking.train_state import TrainState, init_train_state

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


def evaluate(config: Config, model: Autoencoder, seed: int, stage: TrainResult) -> dict[str, Any]:
    """A row of results: the fraction of numbers decoded correctly, and the number of codes in use."""
    from thinking.recipes.thought_code.autoencoder import encode_all

    code = config.code
    tokens, decoded = encode_all(model, stage.state.params, code.num_values)
    num_correct = sum(number == value for number, value in enumerate(decoded.tolist()))
    return {
        "seed": seed,
        "num_values": code.num_values,
        "code_length": code.length,
        "num_tokens": code.num_tokens,
        "exact_match": num_correct / code.num_values,
        "num_distinct_codes": len({tuple(tokens_of_one) for tokens_of_one in tokens.tolist()}),
    }


if __name__ == "__main__":
    main("invent_code", run, PRESETS, EXAMPLES)
