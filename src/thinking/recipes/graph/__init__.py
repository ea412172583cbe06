"""Planning on a graph by a guide, a hierarchical goal-conditioned planner."""
