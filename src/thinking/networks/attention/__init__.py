"""Attention over rows of tokens: dense, and in sparse patterns."""
