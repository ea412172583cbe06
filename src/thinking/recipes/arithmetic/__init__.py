"""Arithmetic with chains of thought."""
