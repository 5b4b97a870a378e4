"""Cuts of a price or a wage: of one that stands before its noun, and with vague words in its place.

"a $6000 monthly salary" → "a monthly salary". "earns $12 an hour" → "earns a certain amount an
hour": the rest would not read without them.
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


#: Sums of money that are still one without their size. A bill or a ticket would be of any size.
_SUM = re.compile(
    r" (?:(?:monthly|weekly|yearly|annual|daily|late|flat|one-time|year-end|cash|sales) )?"
    r"(?P<noun>salary|wage|bonus|discount|budget|fee|tip|deposit|fine|scholarship|loan|raise"
    r"|allowance|coupon|refund|donation|profit|prize|debt|grant|gift card|down payment|payment"
    r"|reward|rebate|mortgage|commission|surcharge|paycheck)\b(?![ -](?:bill|of \$))"
)
_DETERMINER = re.compile(r"\b(?P<article>an?|the|his|her|their|its|my|your|our) $", re.IGNORECASE)


def cut_sum(text: str, mention: NumberMention, _clause_start: int) -> Cut | None:
    """ "has a $6000 monthly salary" → "has a monthly salary"."""
    if mention.kind != "money" or text[mention.start : mention.start + 1] not in "$€£":
        return None
    behind = _SUM.match(text, mention.end)
    before = _DETERMINER.search(text, max(0, mention.start - 8), mention.start)
    if behind is None or before is None:
        return None
    article = before["article"]
    if article.lower() in ("a", "an"):
        article = article[0] + ("n" if text[mention.end + 1] in "aeiou" else "")
    edit = Edit(before.start(), mention.end, article)
    return Cut("modifier", (edit,), behind["noun"])
