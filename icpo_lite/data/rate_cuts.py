"""Cuts of a rate, where a vague word has to stand in the number's place.

"earns $12 an hour" → "earns a certain amount an hour"; "drinks 3 coffees a day" → "drinks several
coffees a day". Without these words the rest would say that it was one ("drinks coffees a day").
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.words import is_plural
from icpo_lite.data.text_edits import Cut, Edit, previous_word
from icpo_lite.data.unit_words import ADVERB, BEFORE_MEASURE, is_common_knowledge

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
    """ "earns $12 an hour" → "earns a certain amount an hour"; "drinks 3 coffees a day" → "drinks
    several coffees a day"."""
    if mention.start == clause_start:
        return None
    if mention.kind == "money":
        behind = _PER.match(text, mention.unit_end) or _EACH.match(text, mention.unit_end)
        if not behind or not _AT_A_RATE.search(text, max(0, mention.start - 40), mention.start):
            return None
        edit = Edit(mention.start, mention.unit_end, "a certain amount")
        return Cut("amount", (edit,), f"a certain amount{behind[0]}")
    if mention.kind != "cardinal" or mention.value < 3 or mention.value.denominator != 1:
        return None
    noun = text[mention.end : mention.unit_end].strip()
    if (
        not is_plural(noun)
        or is_common_knowledge(mention)
        or not _PER.match(text, mention.unit_end)
    ):
        return None
    start = mention.start
    if adverb := ADVERB.search(text, 0, start):
        start = adverb.start()
    if previous_word(text, start) in BEFORE_MEASURE | {"", ",", ".", "is", "are", "was", "were"}:
        return None
    return Cut("amount", (Edit(start, mention.end, "several"),), f"several {noun}")
