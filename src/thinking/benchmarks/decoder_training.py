"""Cost of a decoder's training step, beside PyTorch.

Axes: B rows, T tokens of a row, D width.
"""

from thinking.benchmarks import baselines
from thinking.benchmarks.config import TrainingConfig
from thinking.benchmarks.decoders import VOCABULARY_SIZE, make_example_decoder, make_training_steps
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.trees import count_parameters


def measure_training(config: TrainingConfig, setup: Setup) -> Measurement:
    """Milliseconds of a training step with AdamW, and of one in PyTorch if that is installed."""
    row = measure_training_step(config, setup.gflops)
    if baselines.check_installed(setup.run, "training", "torch"):
        row["torch_ms"] = baselines.torch_training_ms(config)
        row["torch_ms_without_microbatches"] = baselines.torch_training_ms(config, num_microbatches=1)
        best = min(row["torch_ms"], row["torch_ms_without_microbatches"])
        row["times_faster_than_torch"] = best / min(row["ms"], row["ms_without_microbatches"])
    return Measurement([row])


def measure_training_step(config: TrainingConfig, gflops: float) -> Row:
    """Milliseconds of a training step in float32, and the lower bound by its matrix products.

    Gradients are accumulated over microbatches, whose activations fit a CPU's caches.

    Args:
        config: sizes.
        gflops: the machine's GFLOP/s in a matrix product.
    """
    rows, tokens, width, layers = (
        config.batch_size, config.sequence_length, config.decoder.width, config.decoder.num_layers
    )  # fmt: skip
    model, shape = make_example_decoder(config.decoder, tokens), (config.num_steps, rows, tokens)
    steps, state = make_training_steps(
        model, shape, vocabulary_size=VOCABULARY_SIZE, num_microbatches=config.num_microbatches
    )
    whole_steps, _ = make_training_steps(model, shape, vocabulary_size=VOCABULARY_SIZE)
    seconds, at_once = (measure_best_seconds(function, state) / config.num_steps for function in (steps, whole_steps))
    matrices = layers * 12 * width**2 + VOCABULARY_SIZE * width
    floor = (6 * matrices + layers * 12 * tokens * width) * rows * tokens / gflops / 1e9
    return {
        "benchmark": "training step",
        "rows": rows,
        "tokens": tokens,
        "num_parameters": count_parameters(state.params),
        "num_microbatches": config.num_microbatches,
        "ms": seconds * 1e3,
        "ms_without_microbatches": at_once * 1e3,
        "flops_bound_ms": floor * 1e3,
        "ms_over_flops_bound": seconds / floor,
    }
