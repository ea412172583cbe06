"""Post-training: worked texts first, then rewards for what was written."""
