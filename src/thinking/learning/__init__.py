"""Learning from experience: pure update functions, returns, and what is kept of the past."""
