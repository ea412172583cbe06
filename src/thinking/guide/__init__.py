"""The guide, a hierarchical goal-conditioned planner: memory, abstraction, and layers that observe, react and think.

To *react* is closed-loop planning, one action for each observation. To *think* is open-loop planning, a whole plan
without observations. A *pivot* is a state of a trajectory that becomes a sub-goal. The *hippocampus* is a ring buffer
of recent observations. A *tag* is a visit count that is appended to an observation.
"""

from thinking.guide.guide import Guide, GuideState, guide
from thinking.guide.hindsight import Trajectories
from thinking.guide.scoring import monte_carlo, temporal_difference
from thinking.guide.think import Plan

__all__ = ["Guide", "GuideState", "Plan", "Trajectories", "guide", "monte_carlo", "temporal_difference"]
