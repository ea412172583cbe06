"""What the tests of the environments share."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def _compile_quickly():
    """Most of the time of tiny problems is compilation: optimize little."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
