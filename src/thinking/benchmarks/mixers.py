"""Mixers of a decoder: the cost of a training step on a long row beside dense attention, and memory in generation.

Axes: T tokens of a row.
"""

import jax

from thinking.benchmarks.config import MixersConfig
from thinking.benchmarks.decoders import VOCABULARY_SIZE, make_example_decoder, make_training_steps
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.networks.mixers import MIXERS
from thinking.trees import count_bytes, count_parameters

SHORT_CONTEXT, LONG_CONTEXT = 1024, 2**17


def measure_mixers(config: MixersConfig, setup: Setup) -> Measurement:
    """Milliseconds of a training step of a row in float32, and bytes that a row leaves in memory for its next token."""
    del setup
    names = ["attention", *(name for name in MIXERS if name not in ("attention", "pointwise"))]
    rows = [_measure_mixer(config, name) for name in names]
    return Measurement([row | {"times_faster_than_dense": rows[0]["ms"] / row["ms"]} for row in rows])


def _measure_mixer(config: MixersConfig, name: str) -> Row:
    model = make_example_decoder(config.decoder, config.sequence_length, mixers=(name,))
    shape = (config.num_steps, 1, config.sequence_length)
    steps, state = make_training_steps(model, shape, vocabulary_size=VOCABULARY_SIZE)
    return {
        "benchmark": f"training step, {name}",
        "tokens": config.sequence_length,
        "ms": measure_best_seconds(steps, state) / config.num_steps * 1e3,
        "num_parameters": count_parameters(state.params),
        f"state_bytes_at_{SHORT_CONTEXT}": _count_state_bytes(config, name, SHORT_CONTEXT),
        f"state_bytes_at_{LONG_CONTEXT}": _count_state_bytes(config, name, LONG_CONTEXT),
    }


def _count_state_bytes(config: MixersConfig, name: str, num_tokens: int) -> int:
    model = make_example_decoder(config.decoder, num_tokens, mixers=(name,))
    return count_bytes(jax.eval_shape(lambda: model.init_cache(1, num_tokens)).layers)
