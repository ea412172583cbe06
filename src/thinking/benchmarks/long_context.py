"""A very long context, in a process of its own so that its peak memory is measured alone.

`python -m thinking.benchmarks.long_context TOKENS WIDTH HEADS LAYERS WINDOW FIRST` prints one line of JSON.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from thinking.benchmarks.config import LongContextConfig
from thinking.benchmarks.measurement import Measurement, Row, Setup
from thinking.errors import RunError


def measure_long_context(config: LongContextConfig, setup: Setup) -> Measurement:
    """Seconds and peak memory of a forward pass of one row, and of generation from it with a ring cache."""
    del setup
    tokens, window, first, model = (
        config.sequence_length, config.window, config.num_global_tokens, config.decoder
    )  # fmt: skip
    sizes = [str(size) for size in (tokens, model.width, model.num_heads, model.num_layers, window, first)]
    command = [sys.executable, "-m", "thinking.benchmarks.long_context", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"reading {tokens} tokens failed: {done.stderr.strip().splitlines()[-1]}")
    measured = f"decoder, window {window} and first {first}"
    return Measurement([{"benchmark": measured, "tokens": tokens, **json.loads(done.stdout)}])


def _measure_reading(
    tokens: int, width: int, num_heads: int, num_layers: int, window: int, num_global_tokens: int
) -> Row:
    import jax
    import jax.numpy as jnp

    from thinking.generation.completions import generate
    from thinking.networks.attention.patterns import Global, Window
    from thinking.networks.blocks import BlockConfig
    from thinking.networks.decoder import decoder

    max_new_tokens = 16
    model = decoder(
        vocab_size=256,
        context_length=tokens + max_new_tokens,
        block=BlockConfig(width, num_heads),
        num_layers=num_layers,
        pattern=Window(window) | Global(num_global_tokens),
    )
    params = jax.jit(model.init)(jax.random.key(0))
    row = jax.random.randint(jax.random.key(1), (1, tokens), 0, 256)
    seconds, is_finite = {}, {}
    for name, function in {
        "forward": lambda params, row: model.apply(params, row).logits,
        "read_and_write": lambda params, row: (
            generate(model, params, jax.random.key(2), row, max_new_tokens=max_new_tokens).log_prob
        ),
    }.items():
        compiled = jax.jit(function).lower(params, row).compile()
        start = time.perf_counter()
        output = jax.block_until_ready(compiled(params, row))
        seconds[f"{name}_s"] = time.perf_counter() - start
        is_finite[f"{name}_finite"] = bool(jnp.all(jnp.isfinite(output)))
        # Of the whole process up to here, interpreter and compilation included.
        seconds[f"{name}_peak_gib"] = _peak_gib()
    if not all(is_finite.values()):
        raise SystemExit(f"not everything that was read is finite: {is_finite}")
    return seconds


def _peak_gib() -> float:
    """Peak memory of this process in GiB; on Linux, `getrusage` would include the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


if __name__ == "__main__":
    print(json.dumps(_measure_reading(*map(int, sys.argv[1:]))))
