"""Arithmetic as a world to think in: problems, worked chains of thought, what is held out, and rows of tokens."""
