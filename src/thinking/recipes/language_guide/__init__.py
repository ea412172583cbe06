"""The guide (a hierarchical goal-conditioned planner) over sentence embeddings."""
