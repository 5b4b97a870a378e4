"""rollout: to be said."""
