"""Acting in control environments, by a guide (a hierarchical goal-conditioned planner) or an actor-critic."""
