"""Cuts of a price or a wage, where vague words have to stand in the number's place.

"earns $12 an hour" → "earns a certain amount an hour": the rest would not read without them.
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention
from icpo_lite.data.text_edits import Cut, Edit

_PER = re.compile(
    r" (?:(?:per|every|each) [a-z]+|an? (?:hour|day|night|week|month|year|minute|shift|visit))"
    r"(?! [a-z]*(?:er|re)?\b than\b)(?=[ .,;?!]|$)"
)
_EACH = re.compile(r" (?:each|apiece)(?=[.,;?!]|$| and\b| but\b| while\b)")
_AT_A_RATE = re.compile(
    r"\b(?:costs?|charges?|charged|pays?|paid|earns?|earned|makes?|made|gets?|got|saves?|saved|spends?"
    r"|spent|receives?|received|sells? for|sold for|rents? for)(?: (?:him|her|them|[A-Z][a-z]+))? $"
)


def cut_rate(text: str, mention: NumberMention, clause_start: int) -> Cut | None:
    """ "The coffees cost $2 each" → "The coffees cost a certain amount each"."""
    if mention.start == clause_start or mention.kind != "money":
        return None
    behind = _PER.match(text, mention.unit_end) or _EACH.match(text, mention.unit_end)
    if not behind or not _AT_A_RATE.search(text, max(0, mention.start - 40), mention.start):
        return None
    edit = Edit(mention.start, mention.unit_end, "a certain amount")
    return Cut("amount", (edit,), f"a certain amount{behind[0]}")
