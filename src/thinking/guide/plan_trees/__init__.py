"""The guide over outlines: steps, the sections and parts that they belong to, and a goal above them."""
