"""Forms of question known by their words: an age, a length, a time that something takes.

Each takes a clause and the number in it, and gives the question, or None, as `question_forms` does.
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.sentences import is_plural
from icpo_lite.data.question_clauses import has_verb, known, small
from icpo_lite.data.question_phrases import phrase_of


def ask_of_age(text: str, mention: NumberMention) -> str | None:
    """ "Betty is 60 years old" → "how old is Betty"."""
    match = re.match(r"(?P<unit> years?| months?| weeks?)(?: old| of age)\b|$", text[mention.end :])
    before = re.search(
        r"^(?P<who>.*?)(?:’s|'s| is| was| are| will be| turned| turns) (?:now |currently |only )?$",
        text[: mention.start],
    )
    if match is None or before is None or mention.kind != "cardinal":
        return None
    if not match[0] and not re.search(
        r"[A-Z]|brother|sister|mother|father|son|daughter", before["who"]
    ):
        return None
    if not match[0] and re.search(
        r"\b(?:age|number|price|cost|average|score|sum|total|weight|length|distance)\b",
        before["who"],
    ):
        return f"what is {small(before['who'])}"
    be = re.search(
        r"(is|was|are|will be|'s|’s|turned|turns) (?:now |currently |only )?$",
        text[: mention.start],
    )
    verb = (
        {"'s": "is", "’s": "is", "turned": "was", "turns": "is"}.get(be[1], be[1]) if be else "is"
    )
    tail = text[mention.end + match.end() :]
    if verb == "will be":
        return f"how old will {small(before['who'])} be{tail}"
    return f"how old {verb} {small(before['who'])}{tail}"


_TAKES = re.compile(
    r"(?:It|it) (?:takes?|took|will take) (?P<who>[A-Z]\w+|him|her|them|an?[ \w]+?|the[ \w]+?) "
    r"(?P<time>\S+ [a-z]+) to (?P<verb>[a-z]+)(?P<before> .*)?$"
)
_HE = {"him": "he", "her": "she", "them": "they"}


def ask_of_time(text: str, mention: NumberMention) -> str | None:
    """ "It takes Omar 12 minutes to raise it 240 feet" → "how many feet does Omar raise it"."""
    words, start, end = phrase_of(text, mention)
    match = _TAKES.match(text[:start].rstrip())
    if match is None:
        return None
    who = _HE.get(match["who"], known(match["who"]))
    do = "do" if who == "they" else "did" if " took " in text else "does"
    return f"{words} {do} {who} {match['verb']}{match['before'] or ''}{text[end:]}"


_IN_EACH = re.compile(
    r"The (?P<many>[a-z]+(?: [a-z]+)?)(?: of [a-z]+(?: [a-z]+)?)? (?:have|had|contain|hold) $"
)


_PROPERTY = re.compile(
    r"(?P<who>[^,]+?) (?P<verb>has|have|had) an? (?P<what>(?:[a-z]+ )?(?:length|weight|height|width"
    r"|area|volume|capacity|speed|cost|price|value|population|budget|diameter|depth|perimeter|age"
    r"|radius|salary|income)) of (?:about |exactly |over |only )?$"
)


def ask_of_property(text: str, mention: NumberMention) -> str | None:
    """ "The snakes have a length of 70 inches" → "what is the length of the snakes"."""
    match = _PROPERTY.match(text[: mention.start])
    if match is None or has_verb(text[mention.unit_end :]):
        return None
    be = "was" if match["verb"] == "had" else "is"
    return f"what {be} the {match['what']} of {small(known(match['who']))}"


def ask_in_each(text: str, mention: NumberMention) -> str | None:
    """ "The bags have 25 toys in each bag" → "how many toys are there in each bag"."""
    words, start, end = phrase_of(text, mention)
    match, each = _IN_EACH.match(text[:start]), re.match(r" (?:in|on) each\b.*", text[end:])
    if match and each and each[0].endswith(" each"):
        return f"{words} are there{each[0]} of the {match['many']}"
    return f"{words} are there{each[0]}" if match and each and is_plural(match["many"]) else None
