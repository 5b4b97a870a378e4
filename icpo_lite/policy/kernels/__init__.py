"""The fused log-prob path."""
