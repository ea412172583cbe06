"""Discrete autoencoders: a number is encoded as a few tokens, and decoded from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thinking.experiment import Run, main
from thinking.recipes.thought_code.config import EXAMPLES, PRESETS, Config

if TYPE_CHECKING:
    from thinking.experiment.training_loop import TrainResult
    from thinking.recipes.thought_code.autoencoder import Autoencoder

COLUMNS = {
    "seed": "seed",
    "num_values": "numbers",
    "code_length": "tokens of a code",
    "num_tokens": "kinds of token",
    "exact_match": "decoded, %",
    "num_distinct_codes": "codes in use",
}
"""Headers of the columns of the table on the terminal, by name."""


def run(config: Config, run: Run) -> None:
    """Train a model of every seed, and write its accuracy and number of codes."""
    from thinking.experiment import plots
    from thinking.experiment.results import write_results
    from thinking.recipes.thought_code.training import build_autoencoder, train_autoencoder

    code, model = config.code, build_autoencoder(config)
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
