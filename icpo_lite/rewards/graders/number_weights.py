"""How much a number looks like what its sentence is there to tell.

"costs $5" tells it more than "in 5 days". The tables were written by hand beside
lic_math_answers_dev.jsonl; tests/claims/tables.json has what each is worth there.
"""

from __future__ import annotations

import re

from icpo_lite.rewards.graders.written_numbers import Found

OPERATOR = re.compile(
    r"\s?(?:[a-z%]{1,12}\s|\([^()\d]{0,40}\)\s)?(?:[-+*/×÷·](?=\s?[$€£(]?\d)|minus\b|plus\b"
    r"|times \d"
    r"|divided by\b|multiplied by\b)",
    re.IGNORECASE,
)
_AFTER_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|equals?|equal to|equates to|equivalent to|comes? to|came to"
    r"|amounts? to|results? in|gives?|gave|yields?|takes?|took|needs?|needed|has|have|had|makes?"
    r"|made"
    r"|earns?|earned|gets?|got|costs?|pays?|paid|spends?|spent|eats?|eaten|ate|worth|receives?|received"
    r"|saves?|saved|sells?|sold|weighs?|leaves?|left with|leaving|lasts?|remains?|requires?"
    r"|reach(?:es)?"
    r"|totals?|totaling|exactly|approximately|about|another|additional|extra|up to)"
    r"(?: (?:him|her|them|it|me|us|you|only|just|exactly|about|approximately|around|an? additional"
    r"|an? extra|a total of|at least|at most|another|[A-Z]\w{1,12}))?[:\s*]{1,4}[$€£]?$"
)
_TOTAL = re.compile(r"\b(?:total|average|sum|maximum|minimum) of [$€£]?$", re.IGNORECASE)
_AFTER_PREPOSITION = re.compile(
    r"\b(?:in|for|over|after|during|within|of|with|from|per|by|every|each|when|all|on|at|than"
    r"|only if"
    r"|minus|plus|times)"
    r" (?:the |all |these |those |his |her |their |its |a )?(?:\w{2,12} )?[$€£]?$",
    re.IGNORECASE,
)
_IF_BEFORE = re.compile(
    r"(?:\b(?:if|when|because|since|given|assuming)|(?:^|[,.;:] )\W{0,5}(?:after|as"
    r"|with)) [^,]{0,160}$",
    re.IGNORECASE,
)
#: "…, leaving Tom with 5": what a sentence was there to tell, beside other numbers of it.
_COMES_TO = re.compile(
    r"(?:, (?:thus |thereby )?(?:making|giving|yielding|bringing)| (?:leaving|totall?ing"
    r"|resulting in))\b[^,.;:\d]{0,40}$",
    re.IGNORECASE,
)
_DOING_BEFORE = re.compile(r"(?:^|, )\W{0,5}(?:by )?\w{2,12}ing [^,]{0,40}$", re.IGNORECASE)
COMPOUND = re.compile(r"-[a-z]", re.IGNORECASE)
_OPERATED = re.compile(
    r"[-+*/×÷]\s?[$€£(]?$|\b(?:minus|plus|times|divided by|multiplied by) [$€£]?$"
)


def weight_of(text: str, number: Found) -> int:
    """How much a number looks like what its sentence is there to tell."""
    before = text[max(0, number[1] - 170) : number[1]]
    if COMPOUND.match(text, number[2]):
        return -4
    if OPERATOR.match(text, number[2]) or _OPERATED.search(before):
        return -2
    if _TOTAL.search(before) or _COMES_TO.search(before):
        return 3
    verb = bool(_AFTER_VERB.search(before))
    weight = 2 if verb else -1 if _AFTER_PREPOSITION.search(before) else 0
    weight -= 3 * bool(_IF_BEFORE.search(before))
    weight -= bool(not verb and _DOING_BEFORE.search(before))
    return weight - 2 * (before.rfind("(") > before.rfind(")"))
