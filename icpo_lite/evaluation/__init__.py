"""Judging as Lost in Conversation does (arXiv 2505.06120)."""
