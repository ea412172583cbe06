"""Thoughts that nobody supervised."""
