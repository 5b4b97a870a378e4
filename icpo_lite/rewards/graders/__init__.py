"""graders: to be said."""
