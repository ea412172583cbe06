"""The guide over plan trees: steps, the sections and parts that contain them, and a goal above."""
