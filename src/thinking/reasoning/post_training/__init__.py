"""Post-training: supervised fine-tuning on worked texts, then reinforcement learning on rewards of completions."""
