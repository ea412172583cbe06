"""Planning where two nodes look alike."""
