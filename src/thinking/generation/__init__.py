"""Text generation with a decoder: prompts, sampling, cached decoding, streaming and display."""
