"""Acting in control environments."""
