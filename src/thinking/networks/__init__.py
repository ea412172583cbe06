"""Flax NNX modules that decoders and kernels (the learners of a guide's layers) share."""
