"""Configs and presets of the four tasks of the language guide, free of JAX."""
