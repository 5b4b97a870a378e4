"""core: to be said."""
