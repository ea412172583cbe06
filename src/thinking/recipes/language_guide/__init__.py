"""The guide over sentence embeddings."""
