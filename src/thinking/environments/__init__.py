"""Environments and problem generators: graphs, classic control, arithmetic, automata."""
