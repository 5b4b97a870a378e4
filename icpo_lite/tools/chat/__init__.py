"""Talking to a model: one engine, in a terminal and in a page."""
