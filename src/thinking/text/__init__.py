"""Texts and sentences: who writes them, how they are cut into steps, and how they become vectors."""
