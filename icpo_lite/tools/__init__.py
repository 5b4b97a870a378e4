"""tools: to be said."""
