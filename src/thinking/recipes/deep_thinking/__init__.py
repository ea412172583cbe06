"""Thinking longer solves bigger puzzles: recursive networks beside networks of fixed depth."""
