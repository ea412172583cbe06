"""Reasoning: search, post-training by rewards, and thoughts that nobody supervised."""
