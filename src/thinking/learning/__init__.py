"""Returns and advantages, policy-gradient updates, a replay buffer, rollouts, supervised training and curricula."""
