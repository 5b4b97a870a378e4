"""What a text says, without a model: numbers, names, sentences, and what a question asks for.

Pure functions over `str`, written for word problems and for short chat turns in English. They are
heuristics: each returns spans into the text it was given, so that a caller can always look at the
words. All are linear in the length of the text and use no backtracking over more than a few words.
"""

from __future__ import annotations


# ---------------------------------------------------------------------------------------- numbers


# -------------------------------------------------------------------------------------- sentences


# ----------------------------------------------------------------------------------------- names


# -------------------------------------------------------------------------------------- questions
