"""training: to be said."""
