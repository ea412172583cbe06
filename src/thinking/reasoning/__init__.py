"""Search, post-training on rewards, and thoughts learned without supervision."""
