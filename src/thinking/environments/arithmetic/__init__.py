"""Arithmetic as a world to think in: problems, worked chains of thought, and what is held out."""
