"""Language models with thoughts before text."""
