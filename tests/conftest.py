"""All tests run on the CPU, and no array is broadcast to a higher rank by mistake."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # for processes that tests start

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
