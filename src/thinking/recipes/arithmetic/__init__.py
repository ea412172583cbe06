"""Arithmetic with thoughts."""
