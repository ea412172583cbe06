"""Writing toward a target by reward alone."""
