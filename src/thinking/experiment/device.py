"""The device of a run: preparation, description, and measured speed."""

import contextlib
import logging
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from thinking.errors import RunError

_REPEATS = 5


def prepare_device() -> None:
    """Keep compiled programs in the user's cache folder, and silence informational messages of the libraries.

    They are native code, so they do not lie among the artifacts, which may be shared. A cache set by
    `JAX_COMPILATION_CACHE_DIR` is left as it is. If it cannot be read or written, the program compiles without it.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(find_cache_folder() / "compiled"))
    jax.config.update("jax_enable_x64", False)  # all is float32, whatever JAX_ENABLE_X64 says
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when the first device is initialised
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)  # messages about missing devices


@contextlib.contextmanager
def compile_quickly() -> Iterator[None]:
    """Let XLA optimize little within the block: for a single answer, compiling takes longer than running."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def find_cache_folder() -> Path:
    """The project's folder below the user's cache folder (XDG_CACHE_HOME, by default ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thinking"


def describe_device() -> dict[str, Any]:
    """The devices: `platform` (cpu, gpu, tpu), `kind`, `count`, and the CPU as `processor`.

    Raises:
        RunError: there is no device of the kind that `JAX_PLATFORMS` names.
    """
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where JAX was installed without that platform
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).split("\n")[0][:120] or "JAX was installed without this platform"
        raise RunError(
            f"JAX_PLATFORMS={platforms}: JAX finds no such device ({reason}); unset it, or take cpu"
        ) from error
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processor": _processor(),
    }


def measure_matmul_gflops(size: int = 1024) -> float:
    """GFLOP/s of a float32 product of two `[size, size]` matrices, without compilation."""
    left, right = (jax.random.normal(key, (size, size)) for key in jax.random.split(jax.random.key(0)))
    seconds = measure_best_seconds(jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest")), left, right)
    return 2 * size**3 / seconds / 1e9


def measure_memory_gbps(mebibytes: int = 64) -> float:
    """Memory bandwidth in GB/s, by reading and writing an array once."""
    array = jnp.ones(mebibytes * 2**20 // 4, jnp.float32)
    return 2 * array.nbytes / measure_best_seconds(jax.jit(lambda x: x + 1), array) / 1e9


def measure_best_seconds(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    """The shortest of several calls, because disturbances only slow a call down."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
