"""Benchmarks of this project's parts, beside baselines on the same machine."""
