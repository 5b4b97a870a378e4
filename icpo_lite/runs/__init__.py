"""runs: to be said."""
