"""All tests run on the CPU, and implicit rank promotion is an error."""

import functools
import gc
import os
import threading

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # for subprocesses of tests
# Few tests share programs, and to write all of them takes longer than it saves.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "0")

# Tests compile much and compute little, so optimization is off.
# Without the emitters, programs for chunks of different lengths are no longer equal bit by bit. A program is compiled
# in one piece, as splitting a small program takes longer than compiling it.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

import jax
import pytest
from jax._src.interpreters import mlir

jax.config.update("jax_numpy_rank_promotion", "raise")


SLOW = (
    "test_docs.py",
    "test_notebooks.py",
    "tasks",
    "reasoning",
    "generation",
    "networks",
    "guide",
    "recipes",
    "serving",
)
"""Files and folders with slow tests, in the order in which they start."""


def pytest_collection_modifyitems(items):
    """Run slow tests first, so that no worker starts a slow file when the others are done."""
    rank = {name: index for index, name in enumerate(SLOW)}
    items.sort(key=lambda item: min(rank.get(part, len(SLOW)) for part in item.path.parts))


gc.disable()  # what JAX has traced are millions of objects, through which automatic collections go again and again


@pytest.fixture(scope="module", autouse=True)
def _collect_garbage():
    """Collect garbage once a file; what is still alive then, such as compiled programs, is not looked at again."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _one_ir_context(_collect_garbage):
    """Let the programs of a file share an MLIR context, as making one takes as long as lowering a small program.

    Threads of a server under test have their own.
    """
    make = mlir.make_ir_context
    shared = functools.cache(make)

    def choose():
        return shared() if threading.current_thread() is threading.main_thread() else make()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", choose)
        yield
