"""Worlds to think in."""
