"""Flax NNX modules that kernels and language models share."""
