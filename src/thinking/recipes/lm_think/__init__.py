"""Thoughts before text."""
