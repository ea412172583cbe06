"""Planning by a guide (a hierarchical goal-conditioned planner) where two nodes look alike."""
