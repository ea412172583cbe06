"""Thoughts learned without supervision: intermediate steps between an input and its answer.

Here to think is to generate thoughts before an answer. In `guide` it is open-loop planning.
"""

from thinking.reasoning.thoughts.steps import GradientEstimator, Kind
from thinking.reasoning.thoughts.thinking_model import (
    ThinkingModel,
    ThinkingOutput,
    init_from_model_without_thoughts,
    thinking_model,
)

__all__ = [
    "GradientEstimator",
    "Kind",
    "ThinkingModel",
    "ThinkingOutput",
    "init_from_model_without_thoughts",
    "thinking_model",
]
