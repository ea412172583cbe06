"""A discrete autoencoder."""
