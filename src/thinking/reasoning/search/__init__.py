"""Search: ways to spend more computation on an answer. Searches know no model."""
