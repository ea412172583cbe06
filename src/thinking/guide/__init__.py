"""The guide, a hierarchical goal-conditioned planner: memory, abstraction, and layers that observe, react and think."""

from thinking.guide.guide import Guide, GuideState, guide
from thinking.guide.hindsight import Path
from thinking.guide.scoring import monte_carlo, temporal_difference
from thinking.guide.think import Plan

__all__ = ["Guide", "GuideState", "Path", "Plan", "guide", "monte_carlo", "temporal_difference"]
