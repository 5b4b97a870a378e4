"""Questions about the noun beside a number: "a 120-page book", "a bus that holds 40 people".

A number that describes a noun is asked for of that noun alone, whatever the rest of its sentence
says: "how many pages does the book have", "how many people does the bus hold".
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.sentences import is_plural
from icpo_lite.data.question_clauses import known, small
from icpo_lite.data.question_phrases import phrase_of
from icpo_lite.data.verb_forms import asks_with, is_finite

_HYPHENED = re.compile(
    r"-(?P<unit>[a-z]+)(?:[- ](?P<adjective>old|long|tall|wide|high|deep"
    r"|thick))? (?P<noun>[a-z]+(?: [a-z]+)?)"
)
#: "a 5-foot longer rope"
_MORE_NOUN = re.compile(
    r"-[a-z]+ (?P<more>longer|shorter|taller|wider|deeper|higher|bigger|larger|smaller|heavier"
    r"|lighter|older|younger|faster|slower) (?P<noun>[a-z]+)"
)
_SQUARE = re.compile(
    r"[- ](?P<what>square|cubic)[- ](?P<unit>foot|meter|metre|yard|mile|inch|kilometer) "
    r"(?P<noun>[a-z]+(?: (?:farm|field|house|room|yard|garden|tank|pool|lot|apartment))?)"
)
#: "his 30 meters ribbon", "a 12 inch pizza".
_OF_ONE = re.compile(r"\b(?:an?|his|her|their|my|your|its) $")
_SPACED = re.compile(
    r" (?P<unit>inch|foot|meter|yard|mile|pound|ounce|gallon|liter|litre|gram|page|minute|hour)s?"
    r"(?P<adjective>) (?P<noun>(?!(?:of|long|tall|wide|high|deep|to|for|in|on|at|per|each|and|or"
    r"|more|less|away|from|with|by|than|as|old|is|was|every|if|when|that|before|after)\b)[a-z]+)"
)
_HAS_UNITS = frozenset(
    (
        "page",
        "slice",
        "piece",
        "room",
        "bedroom",
        "question",
        "seat",
        "story",
        "chapter",
        "part",
        "word",
        "count",
        "card",
    )
)
_UNIT_PLURAL = {"foot": "feet", "inch": "inches", "story": "stories"}


def ask_of_modified(text: str, mention: NumberMention) -> str | None:
    """ "a 120-page book" → "how many pages does the book have"."""
    match = _HYPHENED.match(text, mention.end)
    if square := _SQUARE.match(text, mention.end):
        unit = _UNIT_PLURAL.get(square["unit"], square["unit"] + "s")
        return f"how many {square['what']} {unit} {_be(square['noun'])} the {square['noun']}"
    if text[: mention.start].endswith(" by "):
        return None  # "7 foot by 8-foot"
    if match is None and _OF_ONE.search(text[: mention.start]):
        match = _SPACED.match(text, mention.end)
    if match is None or match["unit"] in ("square", "cubic") or match["noun"][-2:] == "ly":
        return None
    if re.match(r"[a-z]+ly\b", match["noun"]):
        return None  # "his 450-mile monthly driving"
    whole = re.compile(r" of [a-z]+(?=[ ,.]|$)").match(text, match.end())
    units = _UNIT_PLURAL.get(match["unit"], match["unit"] + "s")
    noun = (
        match["noun"].split(" ")[0]
        if re.search(
            r" (?:to|for|in|on|at|of|with|and|from|that|is|was|by|today|yesterday|tomorrow|each|as"
            r"|every|last|this|before|after|per|a|an|the)$",
            match["noun"],
        )
        else match["noun"]
    )
    if " " in noun and is_finite(noun.split(" ")[1]):
        noun = noun.split(" ")[0]  # "a 16-ounce bottle costs"
    many = is_plural(noun)
    if more := _MORE_NOUN.match(text, mention.end):
        return f"how many {units} {more['more']} {_be(more['noun'])} the {more['noun']}"
    be, do = ("are", "do") if many else ("is", "does")
    if match["adjective"]:
        return f"how many {units} {match['adjective']} {be} the {noun}"
    if match["unit"] in _HAS_UNITS:
        return f"how many {units} {do} the {noun} have"
    if whole and match["noun"] in ("cup", "glass", "bottle", "can", "bag", "box", "jar", "bowl"):
        noun += whole[0]  # "an 8-ounce cup of tea"
    if match["unit"] in ("minute", "hour", "second", "day", "week", "month", "year"):
        return f"how many {units} long {be} the {noun}"
    return f"how many {units} {be} the {noun}"


def _be(noun: str) -> str:
    return "are" if is_plural(noun) else "is"


OF_ING = {
    "containing": "contain",
    "holding": "hold",
    "weighing": "weigh",
    "measuring": "measure",
    "costing": "cost",
}


def ask_of_relative(text: str, start: int, end: int, words: str) -> str | None:
    """ "… a bus that holds 40 people" → "how many people does the bus hold"."""
    match = _WITH_RELATIVE.search(text[:start])
    if match is None:
        return None
    place = re.search(
        r"\b(?:from|in|on|at|off) (?:the |a |an )?(?:[a-z]+ )?$", text[: match.start()]
    )
    if place and match["verb"]:
        return None  # which of the two nouns is meant, its place does not say
    between, noun = match["between"].rstrip(), match["noun"] or match["many"]
    many = is_plural(noun.split(" of ")[0])
    if holder := _HOLDER.fullmatch(text[: match.start()]):
        noun += f" in {small(known(holder['who']))}"
    tail = text[end:] if many else re.sub(r"^ each$", "", text[end:])
    if match["ing"] == "worth":
        return f"{words} {'are' if many else 'is'} the {noun} worth{tail}"
    if match["ing"]:
        do = "do" if many else "does"
        return f"{words} {do} the {noun} {OF_ING[match['ing']]}{between}{tail}"
    if not is_finite(match["verb"]):
        return None
    auxiliary, verb = asks_with(match["verb"], match["between"])
    if auxiliary in ("do", "does"):
        auxiliary = "do" if many else "does"
    each = " each" if match["each"] else ""
    verb = f" {verb}" if verb else ""
    return f"{words} {auxiliary} the {noun}{each}{verb}{between}{tail}"


def ask_of_fragment(text: str, mention: NumberMention) -> str | None:
    """ "For a fire that needs 40 gallons" → "how many gallons does the fire need".

    The last form: where the clause around the number has no verb that another form has found.
    """
    words, start, end = phrase_of(text, mention)
    return ask_of_relative(text, start, end, words)


#: "The second box contains cards that cost $2": which cards.
_HOLDER = re.compile(r"(?P<who>(?:The|An?|Each|Every|His|Her) [a-z ]+?) (?:contains?|has|holds?) ")
_WITH_RELATIVE = re.compile(
    r"\b(?:(?:an?|the|one|his|her) (?P<noun>(?:[\w-]+ ){0,2}?[\w-]+)"
    r"|(?P<many>(?!(?:is|was|has|does|this|its|his|costs)\b)[a-z]+s(?: of [a-z]+)?)),? "
    r"(?:(?:that|which|who) (?P<each>each )?(?:only |also |already )?(?P<verb>[a-z]+)"
    r"|(?P<ing>containing|holding|weighing|measuring|costing|worth))(?P<between>[^,]*)$"
)
