"""Model FLOPs utilisation of a training step in bfloat16 on a GPU."""

import jax
import jax.numpy as jnp

from thinking.benchmarks.config import UtilisationConfig
from thinking.benchmarks.decoders import make_training_steps
from thinking.benchmarks.measurement import Measurement, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.networks.blocks import BlockConfig
from thinking.networks.decoder import decoder
from thinking.trees import count_parameters

BFLOAT16_PEAKS = {
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H200": 989,
    "NVIDIA L4": 121,
}
"""Peak TFLOP/s of dense bfloat16 products by `device_kind`, from the data sheets."""


def measure_utilisation(config: UtilisationConfig, setup: Setup) -> Measurement:
    """Tokens per second of a training step with AdamW, and the utilisation if the GPU's peak is known.

    FLOPs are counted as 6 per parameter and token plus 12 D T per layer and token (Chowdhery et al. 2022, appendix B).
    """
    del setup
    sizes, rows, tokens = config.decoder, config.batch_size, config.sequence_length
    block = BlockConfig(sizes.width, sizes.num_heads, dtype=jnp.bfloat16)
    model = decoder(vocab_size=config.vocabulary_size, context_length=tokens, block=block, num_layers=sizes.num_layers)
    steps, state = make_training_steps(model, (config.num_steps, rows, tokens), vocabulary_size=config.vocabulary_size)
    seconds = measure_best_seconds(steps, state) / config.num_steps
    size = count_parameters(state.params)
    rate = (6 * size + 12 * sizes.num_layers * sizes.width * tokens) * rows * tokens / seconds / 1e12
    kind = jax.devices()[0].device_kind
    row = {
        "benchmark": f"training step in bfloat16 on {kind}",
        "rows": rows,
        "tokens": tokens,
        "num_parameters": size,
        "ms": seconds * 1e3,
        "tokens_per_second": rows * tokens / seconds,
        "model_tflops": rate,
        "model_flops_utilisation": rate / BFLOAT16_PEAKS[kind] if kind in BFLOAT16_PEAKS else None,
    }
    return Measurement([row])
