"""A discrete autoencoder, which invents a code for numbers: the model of tasks/invent_code.py."""
