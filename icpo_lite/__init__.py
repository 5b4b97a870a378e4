"""ICPO (arXiv 2601.15330) on one consumer GPU: train a language model to ask before it guesses."""

__version__ = "0.1.0"
