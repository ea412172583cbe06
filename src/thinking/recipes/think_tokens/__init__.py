"""Unsupervised thoughts about words of automata."""
