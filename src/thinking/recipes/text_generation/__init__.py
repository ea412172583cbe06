"""Generating a target text, trained by rewards alone."""
