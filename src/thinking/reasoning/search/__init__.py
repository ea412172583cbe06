"""Search strategies that spend test-time compute on an answer, for any model with a step function."""
