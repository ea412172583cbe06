"""Kernels: the learner of one layer of a guide, a goal-conditioned predictor with a learned score.

It is no convolution and no GPU kernel. Its `value` is what it predicts, a state or an action; it is no state value.

A kernel is a triple `(init, fit, infer)` of pure functions, as an optax transformation is a pair.
"""

from thinking.kernels.checks import check_kernel
from thinking.kernels.contract import Context, Hypothesis, Kernel, Spaces, Transition, checked_kernel
from thinking.kernels.gradient import SlotNetwork, gradient_kernel
from thinking.kernels.linear import linear
from thinking.kernels.recurrent import memory, recurrent
from thinking.kernels.slots import INITIAL_SCORE_LOGIT, Learning, Slots, score_access, value_access
from thinking.kernels.table import table
from thinking.kernels.transformer import transformer
from thinking.types import Box, Discrete, Space, value_width

__all__ = [
    "INITIAL_SCORE_LOGIT",
    "Box",
    "Context",
    "Discrete",
    "Hypothesis",
    "Kernel",
    "Learning",
    "SlotNetwork",
    "Slots",
    "Space",
    "Spaces",
    "Transition",
    "check_kernel",
    "checked_kernel",
    "gradient_kernel",
    "linear",
    "memory",
    "recurrent",
    "score_access",
    "table",
    "transformer",
    "value_access",
    "value_width",
]
