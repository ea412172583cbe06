"""Attention over rows of tokens: dense, and in patterns that keep fewer pairs."""
