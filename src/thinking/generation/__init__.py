"""Writing with a decoder: prompts, sampling, token by token over a cache, and showing it."""
