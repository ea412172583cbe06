"""Acting in control worlds."""
