"""`jit` without optimization: the tests' programs are tiny, so they take longer to compile than to run."""

import functools

import jax

jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
)
