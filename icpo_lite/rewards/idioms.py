"""Turns of speech put into plain words before a text is compared: "go for apiece" is "cost".

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them, by questions of which one part was held back.
"""

from __future__ import annotations

import re
from functools import lru_cache

_INSTRUMENTS = {
    "weigh": r"scales?",
    "cost": r"(?:price )?tag|sticker|receipt|invoice",
    "measure distance": r"odometer|pedometer|tape measure|ruler",
    "speed was": r"speedometer",
    "temperature was": r"thermometer",
    "time was": r"stopwatch|timer",
}
_READS = r"(?:(?:read|say|show|display|indicate)s?|said|(?:show|display|indicat)ed)"
#: What a price is said for, behind "go for": one piece, or nothing more.
_ONE = r"(?:apiece|a piece|each|per [a-z]+|an? [a-z]+|these days|now|today)"
_TURNS = [
    (rf"\b(?:sell|sells|sold|go|goes|went|retail|retails) for(?=(?: {_ONE})?\W*$| \$)", "costs"),
    (
        r"\b(?:set|sets|setting) (?:him|her|them|us|you|me|one|someone|somebody|[A-Z][a-z]+) back",
        "cost",
    ),
    (r"\bshell(?:ed)? out\b|\bfork(?:ed)? over\b", "pay"),
    (
        r"\b(?:bring|brings|brought|take|takes|took) home\b(?= (?:per|each|every|an?|in)\b|\W*$)",
        "earn",
    ),
    (r"\b(?:made|makes?|making|takes? in|took in|brings? in|brought in)(?= \$)", "earned"),
    (
        r"\b(?:take|takes|took|bring|brings|brought) in\b"
        r"(?= (?:from|on|for|per|each|every)\b|\W*$)",
        "earn",
    ),
    (r"\b(?:money|cash|much) (?:came|comes|come) in\b", "money was earned"),
    (r"\btakings\b", "proceeds"),
    *(
        (rf"\b(part|stage|phase|round|section) (?:{number})\b", rf"{place} \1")
        for number, place in (("one|1", "first"), ("two|2", "second"), ("three|3", "third"))
    ),
    (r"\bcomes? to(?=\W*$)", "cost"),
    (r"\b(?:go|goes|went|gone) missing\b", "are lost"),
    (r"\ball (?=\d)", ""),
    (r"\bthe rest\b(?! (?:time|period))", "the remaining"),
    (r"\b(?:takes?|took|needed) to fill\b", "fit in"),
    (r"\b(?:go|goes|went) over the counter\b", "are sold"),
    (r"\bstudent body\b", "students"),
    (r"\b(?:put|taken|counted|added) together\b|\ball told\b", "altogether"),
    (r"\bleft(?= (?:the|his|her|their|school|home|town|early)\b)", "departed"),
    (r"\btips? the scales?(?: at)?\b", "weighs"),
    *(
        (rf"\b(?:the|his|her|their|its) (?:[a-z]+ )?(?:{things}) {_READS}\b", verb)
        for verb, things in _INSTRUMENTS.items()
    ),
    (r"(?<=\d) ?a\.?m\b\.?", " in the morning"),
    (r"(?<=\d )bill\b|(?<=dollar )bill\b|(?<=\bone )bill\b", "bills"),
    (r"\b(?:so far|to date|up to now|until now|up until now)\b", "already"),
    (r"\b(?<!left )over (?=(?:the|this|that|these|his|her|their|all)\b)", "in "),
    (r"\bhead of cattle\b", "cows"),
    (r"\bt[- ]?shirts?\b|\btees\b", "tee shirts"),
    (r"\bpocket money\b", "allowance"),
    (r"\blook(?:s|ed|ing)? after\b", "babysitting"),
    (
        r"\b(?:when|as|before) (?:he|she|they|it|[A-Z][a-z]+) (?:set (?:out|off)|left home|started"
        r"(?: out)?|began)\b|\b(?:left home|set (?:out|off)) with\b",
        "initially",
    ),
    (
        r"\bat (?:first|the outset|the start|the beginning)\b|\bto (?:begin|start) with\b",
        "initially",
    ),
    *(
        (rf"(?<=many ){word}(?= (?!of)[a-z]+\b)", f"{one}-dollar bills")
        for word, one in [
            ("twos", "two"),
            ("fives", "five"),
            ("tens", "ten"),
            ("twenties", "twenty"),
            ("fifties", "fifty"),
            ("hundreds", "hundred"),
        ]
    ),
]
_PATTERNS = [(re.compile(turn, re.IGNORECASE), words) for turn, words in _TURNS]


@lru_cache(maxsize=32768)
def plain(text: str) -> str:
    """The text with its turns of speech replaced."""
    for pattern, words in _PATTERNS:
        text = pattern.sub(words, text)
    return text
