"""Compile quickly rather than well: what these tests compute is so tiny that it compiles far longer than it runs."""

import functools

import jax

jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
)
