"""A laboratory for small thinking models in JAX and Flax: planning, memory, reasoning and search."""

__version__ = "0.1.0"
