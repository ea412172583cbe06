"""All tests run on the CPU, and no array is broadcast to a higher rank by mistake."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # for processes that tests start

# Tests compile much and compute little: the compiler need not try hard.
# Without the emitters, programs for chunks of different lengths are no longer equal bit by bit. A program is compiled
# in one piece: so small a one takes longer to split than to compile.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


LONG = ("tasks", "reasoning", "generation", "networks", "guide", "recipes")
"""Folders whose files take long, the longest first."""


def pytest_collection_modifyitems(items):
    """What takes long comes first: no worker shall begin with a long file when the others have ended."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: min(rank.get(part, len(LONG)) for part in item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    """What several tests of a worker compile is compiled once, unless it is so small that writing it takes as long."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
