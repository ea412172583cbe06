"""Inventing a code."""
