"""Speed of generation, beside Hugging Face.

Axes: B rows, N new tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np

from thinking.benchmarks import baselines
from thinking.benchmarks.config import GenerationConfig
from thinking.benchmarks.decoders import PROMPT_LENGTH, VOCABULARY_SIZE, make_example_decoder
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.experiment.device import measure_best_seconds
from thinking.generation.completions import generate


def measure_generation(config: GenerationConfig, setup: Setup) -> Measurement:
    """Tokens generated per second, and by Hugging Face's `generate` if that is installed."""
    row = measure_sampling(config)
    if baselines.check_installed(setup.run, "generation", "torch", "transformers"):
        row |= baselines.measure_huggingface_generation(config)
        row["times_faster_than_huggingface"] = row["tokens_per_second"] / row["huggingface_tokens_per_second"]
    return Measurement([row])


def measure_sampling(config: GenerationConfig) -> Row:
    """Tokens generated per second with a KV cache, and without one in one static shape."""
    rows, new = config.batch_size, config.max_new_tokens
    model = make_example_decoder(config.decoder, PROMPT_LENGTH + new)
    params = jax.jit(model.init)(jax.random.key(0))
    prompts = jax.random.randint(jax.random.key(1), (rows, PROMPT_LENGTH), 0, VOCABULARY_SIZE)
    write_cached = jax.jit(
        lambda params, prompts: generate(model, params, jax.random.key(2), prompts, max_new_tokens=new)
    )
    forward = jax.jit(lambda params, tokens: model.apply(params, tokens).logits)
    cached = measure_best_seconds(write_cached, params, prompts)
    padded = jnp.pad(prompts, ((0, 0), (0, new)))
    uncached = measure_best_seconds(forward, params, padded)
    # The mean forward pass without a cache, if each token had a program of its own length.
    lengths = np.linspace(PROMPT_LENGTH, PROMPT_LENGTH + new, 5).astype(int)
    growing = np.mean([measure_best_seconds(forward, params, padded[:, :length]) for length in lengths])
    return {
        "benchmark": "generation",
        "rows": rows,
        "tokens": new,
        "tokens_per_second": rows * new / cached,
        "times_faster_than_without_cache": uncached * new / cached,
        "times_faster_than_growing_without_cache": growing * new / cached,
    }
