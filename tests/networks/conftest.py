"""What the tests of the networks share."""

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def _quick_compilation():
    """Compile quickly rather than well: these networks are so tiny that they compile far longer than they run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
