"""Thoughts that nobody supervised: models that take steps of their own between a word and its answer."""

from thinking.reasoning.thoughts.steps import Choice, Kind
from thinking.reasoning.thoughts.thinker import Thinker, Thinking, converted, thinker

__all__ = ["Choice", "Kind", "Thinker", "Thinking", "converted", "thinker"]
