"""Thinking in tokens: generation with a cache, and search."""
