"""A laboratory for small thinking models in JAX and Flax: planning, memory, reasoning and search."""

from typing import Any

__version__ = "0.1.0"


def load(name: Any) -> Any:
    """Load an exported or shipped model, as `thinking.pretrained.loading.load` describes it."""
    from thinking.pretrained.loading import load  # late, as it imports JAX

    return load(name)
