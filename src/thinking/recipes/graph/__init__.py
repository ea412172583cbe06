"""Planning on a graph."""
