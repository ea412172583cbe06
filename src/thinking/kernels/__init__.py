"""Kernels: the learner of one layer of a guide, a goal-conditioned predictor with a learned score.

It is no convolution and no GPU kernel. Its `value` is what it predicts, a state or an action; it is no state value.

A kernel is a triple `(init, fit, infer)` of pure functions, as an optax transformation is a pair.
"""

from thinking.kernels.contract import Context, Hypothesis, Kernel, Spaces, Transition
from thinking.kernels.linear import linear
from thinking.kernels.slots import Learning, score_access, value_access
from thinking.kernels.table import table
from thinking.kernels.transformer import transformer
from thinking.types import Box, Discrete, Space

__all__ = [
    "Box",
    "Context",
    "Discrete",
    "Hypothesis",
    "Kernel",
    "Learning",
    "Space",
    "Spaces",
    "Transition",
    "linear",
    "score_access",
    "table",
    "transformer",
    "value_access",
]
