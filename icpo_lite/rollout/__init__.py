"""Sampling: engines, keyed noise, groups of replies, conversations with a simulated user."""
