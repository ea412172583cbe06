"""Thoughts that nobody supervised: models that take steps of their own between a word and its answer."""

from thinking.reasoning.thoughts.thinker import Choice, Kind, Thinker, Thinking, thinker

__all__ = ["Choice", "Kind", "Thinker", "Thinking", "thinker"]
