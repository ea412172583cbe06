"""Flax NNX modules that kernels and decoders share."""
