"""The guide (a hierarchical goal-conditioned planner) over plan trees: steps, their sections, a goal at the root."""
