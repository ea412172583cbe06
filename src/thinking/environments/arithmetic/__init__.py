"""Arithmetic: problems, worked chains, parsing, sampling, and the held-out split."""
