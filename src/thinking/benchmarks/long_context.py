"""Reading a very long row, in a program of its own, so that its peak of memory is its own too.

`python -m thinking.benchmarks.long_context TOKENS WIDTH LAYERS WINDOW FIRST` prints one line of JSON.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from thinking.errors import RunError

Row = dict[str, Any]


def measure_long_context(*, tokens: int, width: int, layers: int, window: int, first: int) -> Row:
    """Seconds and peak memory of one forward pass of one row, and of writing on from it over a ring.

    Args:
        tokens: of the row.
        width: D.
        layers: of the decoder.
        window: that each token sees.
        first: tokens at the start that all see as well.
    """
    sizes = [str(size) for size in (tokens, width, layers, window, first)]
    command = [sys.executable, "-m", "thinking.benchmarks.long_context", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"reading {tokens} tokens failed: {done.stderr.strip().splitlines()[-1]}")
    return {"measured": f"decoder, window {window} and first {first}", "tokens": tokens, **json.loads(done.stdout)}


def _read(tokens: int, width: int, layers: int, window: int, first: int) -> Row:
    import jax
    import jax.numpy as jnp

    from thinking.generation.completions import generate
    from thinking.networks.attention.patterns import Global, Window
    from thinking.networks.blocks import BlockConfig
    from thinking.networks.decoder import decoder

    new = 16
    model = decoder(
        vocabulary=256,
        context_length=tokens + new,
        block=BlockConfig(width, 4),
        layers=layers,
        pattern=Window(window) | Global(first),
    )
    params = jax.jit(model.init)(jax.random.key(0))
    row = jax.random.randint(jax.random.key(1), (1, tokens), 0, 256)
    seconds, shares = {}, {}
    for name, function in {
        "forward": lambda params, row: model.apply(params, row).logits,
        "read_and_write": lambda params, row: (
            generate(model, params, jax.random.key(2), row, max_new_tokens=new).log_prob
        ),
    }.items():
        compiled = jax.jit(function).lower(params, row).compile()
        start = time.perf_counter()
        said = jax.block_until_ready(compiled(params, row))
        seconds[f"{name}_s"] = time.perf_counter() - start
        shares[f"{name}_finite"] = bool(jnp.all(jnp.isfinite(said)))
        # Of the whole program up to here, the interpreter and compilation included.
        seconds[f"{name}_peak_gib"] = _peak_gib()
    if not all(shares.values()):
        raise SystemExit(f"not everything that was read is finite: {shares}")
    return seconds


def _peak_gib() -> float:
    """The most memory that this program held; Linux counts a parent's into what `getrusage` says of its child."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


if __name__ == "__main__":
    print(json.dumps(_read(*map(int, sys.argv[1:]))))
