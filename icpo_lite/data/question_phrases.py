"""What a question asks for, with the words that go to its front: "how many boxes of tea"."""

from __future__ import annotations

import re

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.sentences import is_plural
from icpo_lite.data.question_clauses import has_verb
from icpo_lite.data.unit_words import MEASURES

_MORE = re.compile(
    r"(?P<unit>[ -](?:[a-z]+s|inch|feet|foot|percent|kg|cm|mph|%))?"
    r" (?P<how>(?:more|fewer|less|(?!per |her |other |over |under |after |number )[a-z]+er)"
    r"(?: [\w’'-]+){0,5}? than\b"
    r"|as (?:many|much|old|long|tall|far|big|large|heavy|fast)(?: [\w’'-]+){0,5}? as\b)"
)

#: "ten minutes longer", with what it is compared left unsaid.
_LONGER = re.compile(
    r" (?:minutes|hours|days|weeks|months|years|miles|feet|inches|meters|kilometers|pounds) "
    r"(?:longer|later|earlier|farther|further|more|fewer|higher|lower|deeper|wider|apart)\b"
    r"(?! than\b)(?! [a-z]+ than\b)"
)
_ADVERB = re.compile(
    r"\b(?:about|around|approximately|exactly|nearly|almost|roughly|only|just|at least|at most"
    r"|up to|as (?:far|many|much|long|few|little|high) as"
    r"|a total of|the total of|an average of"
    r"|(?:a|the) (?:group|set|number|team|collection|herd|flock) of|over|another|an additional"
    r"|an extra|all) $",
    re.IGNORECASE,
)


def with_adverb(text: str, start: int) -> int:
    match = _ADVERB.search(text, 0, start)
    return match.start() if match else start


def phrase_of(text: str, mention: NumberMention) -> tuple[str, int, int]:
    """The whole phrase that moves to the front of a question, with its place in the text."""
    words, start, end = _phrase_of(text, mention)
    words = _THAN_SHE_IS.sub(lambda m: f"than {_OBJECT.get(m['who'], m['who'])}", words)
    return _THAN_IS.sub(lambda m: m["name"] or "than ", words), start, end


#: "younger than she is", "older than is Jo", which another "is" would follow.
_THAN_SHE_IS = re.compile(r"\bthan (?P<who>he|she|they) (?:is|are|was|were|does|did|do)$")
_THAN_IS = re.compile(
    r"\bthan (?:is|are|was|were|does|did|do|has|had) (?=[A-Z])"
    r"|(?<=\bthan )(?P<name>[A-Z]\w+) (?:is|are|was|were|does|did|do|has|had)$"
)
_OBJECT = {"he": "him", "she": "her", "they": "them"}


def _phrase_of(text: str, mention: NumberMention) -> tuple[str, int, int]:
    words, start, end = _asking_words(text, mention)
    extra = ""
    before = text[: mention.start]
    if before.endswith(("another ", "an additional ", "an extra ")):
        extra = " more"
    if mention.kind == "money" and re.match(r" (?:more|less)\b", text[end:]):
        than = _than_end(text, end)
        return words + text[end:than], start, than
    if bare := _LONGER.match(text, mention.end):
        return words + bare[0], start, bare.end()
    compared = _MORE.match(text, mention.end)
    if compared:
        stop = _than_end(text, mention.end)
        return words + text[mention.end : stop], start, stop
    if mention.kind in ("percent", "fraction"):
        stop = _of_end(text, end)
        return words + text[end:stop], start, stop
    if mention.kind == "cardinal":
        stop = _noun_end(text, mention)
        owned = re.compile(r"['’]s? [a-z]+").match(text, stop)
        if text[mention.end : stop].endswith(("'s", "’s", "s'", "s’")):
            owned = re.compile(r" [a-z]+").match(text, stop)  # "3 people's makeup"
        stop = owned.end() if owned else stop
        noun = text[mention.end : stop]
        if re.match(r" (?:more|fewer|less) than\b", text[stop:]):  # "6 bags of apples more than Al"
            than = _than_end(text, stop)
            return words + text[mention.end : than], start, than
        return words + extra + _plural(noun, mention), start, stop
    if mention.kind == "money" and extra:
        words += extra
    if mention.kind == "money" and (kept := _MONEY_KEPT.match(text, end)):
        return words + kept[0], start, kept.end()
    return words, start, end


def _asking_words(text: str, mention: NumberMention) -> tuple[str, int, int]:
    """(question words, start, end) for a number without its noun: "about 5" → "how many"."""
    start, after = with_adverb(text, mention.start), text[mention.end :]
    if mention.kind == "money":
        return "how much", start, mention.unit_end
    if mention.kind == "percent":
        return (
            ("what percentage" if after.startswith(" of ") else "what percent"),
            start,
            mention.end,
        )
    if mention.kind == "fraction" and not after.startswith(" as "):
        return "what fraction", start, mention.end
    if mention.kind in ("fraction", "multiple"):
        return "how many times", start, mention.end
    return "how many", start, mention.end


#: What a sum of money is called behind it: "$480 savings".
_MONEY_KEPT = re.compile(r" (?:savings|cash|credit|profit|debt|change)\b")


def _plural(noun: str, mention: NumberMention) -> str:
    last = noun.rsplit(" ", 1)[-1]
    if " of " in noun or not (last.isalpha() and last.islower()) or mention.value >= 2:
        return noun
    return noun if last.endswith("s") or is_plural(last) else f"{noun}s"


#: "graphics cards": a plural that is only the first half of a noun.
_SECOND_NOUN = re.compile(
    r"(?<=[a-z]s) (?!(?:across|towards|always|plus|besides|twice|is|was|has|does|costs|this|his|its"
    r"|as|less)\b)[a-z]{3,}s(?=[ ,.]|$)(?! (?:\d|the|a)\b)"
)


#: Words that begin something else than the rest of a noun.
_NO_NOUN = (
    "he|she|they|it|we|you|his|her|their|remaining|each|both|sold|bought|made|given|twice|once|so|for|in|on|at|to|from|with|and|or"
    "|that|which|who|per|every|a|an|is|are|was|were|into|during|by|of|last|this|weigh|cost|hold"
    "|need|have|left|today|yesterday|daily|weekly|before|after|when|if|while|total|only|altogether"
    "|already|just|also|now|then|still|within|over|under|more|fewer|less|than|himself|herself|itself|themselves|yourself|alone"
)
_OF_WHAT = re.compile(
    r" of (?!(?:the|his|her|their|each|them|those|both)\b)"
    rf"(?:(?:[a-z]+ )?T-shirts?|[a-z’'-]+(?: (?!(?:{_NO_NOUN})\b)[a-z’'-]+){{0,2}}"
    r"|[A-Z][a-z]+ [a-z]+)\b"
)
#: "7 inches of the stick", "2 cups of the tomato sauce".
_OF_THE_WHOLE = re.compile(
    r" of (?:the|his|her|their|its|this|that) (?:[a-z-]+ ){0,2}?[a-z-]+"
    r"(?= (?:in|on|with|for|to|at|from|by|each|per|every|and|before|after|when)\b|[.,;]|$)"
)
#: "24 cars and motorcycles", "30 cans of cherry soda and orange pop": one number for both.
_AND_MORE = re.compile(
    r" and (?:(?!(?:the|a|an|some|his|her|their|then|also|he|she|it|they|one|two|three|four|five"
    r"|six|seven|eight|nine|ten|half|twice|another|other|no|each)\b)[a-z]+ ?){1,2}"
    r"(?= (?:in|on|at|for|from|to|with)\b|[.,;]|$)"
)
_LOOSE_PREPOSITION = re.compile(r" (?:across|along|around|through|inside|outside|up|down|apart)$")
_OF_SO_MANY = re.compile(r" of \d+ (?:[a-z-]+ ){0,2}?[a-z]+s\b(?: each\b)?")


def _noun_end(text: str, mention: NumberMention) -> int:
    """End of "boxes of green tea"; a clause or another preposition ends it."""
    end = mention.unit_end
    if loose := _LOOSE_PREPOSITION.search(text[mention.end : end]):
        return mention.end + loose.start()
    if mention.unit in MEASURES and (whole := _OF_THE_WHOLE.match(text, end)):
        return whole.end()
    found = (pattern.match(text, end) for pattern in (_OF_WHAT, _SECOND_NOUN, _OF_SO_MANY))
    end = next((match.end() for match in found if match), end)
    both = _AND_MORE.match(text, end)
    return both.end() if both and not has_verb(both[0]) else end


def _than_end(text: str, at: int) -> int:
    """End of "more marbles than Ben": what is compared with, up to a verb or a preposition."""
    match = re.compile(r"[^,;]*?\b(?:than|as) (?=[^ ])(?!many\b|much\b)").match(text, at)
    if match is None:
        return at
    inner = re.compile(
        r"(?:(?:the|a|an|his|her|their|its|my|each|twice|half|double) )?(?:number of |amount of )?"
        r"(?:(?:Mrs?|Ms|Dr)\. )?[\w’'$&.-]*\w(?: (?:Mrs?|Ms|Dr)\. [A-Z]\w+"
        r"| (?!\d|in\b|on\b|at\b|for\b|from\b|to\b|and\b|when\b"
        r"|than\b|per\b|is\b|are\b"
        r"|was\b|were\b|last\b|this\b|by\b|with\b|every\b|each\b|daily\b|today\b"
        r"|yesterday\b|does\b|did\b|do\b|has\b|had\b|have\b)[\w’'$-]+){0,4}"
    ).match(text, match.end())
    if inner is None:
        return match.end()
    if text[match.end() :].startswith("what "):
        return len(text)
    stop = inner.end()
    for more in (_TOGETHER, _VERB_OF_THE_OTHER, _DONE_THEN):
        stop = found.end() if (found := more.match(text, stop)) else stop
    return stop


_TOGETHER = re.compile(r"(?: of [A-Z]\w+)?(?: and [A-Z]\w+)?(?: together| combined)\b")
#: "than Laurel made in 2014": the time of what is compared with.
_DONE_THEN = re.compile(
    r"(?:(?<=ed)|(?<=de)|(?<=ld)|(?<=nt)) (?:in \d{4}|last [a-z]+|on [A-Z]\w+day|yesterday)\b"
)
_VERB_OF_THE_OTHER = re.compile(
    r" (?:is|was|are|were|does|did|do|has|had|have)\b"
    r"(?:(?! (?:in|after|by|during) (?:\w+ )?(?:years?|months?|weeks?|days?|hours?)\b)[^.,;\d])*"
    r"(?=[.,;]|$| (?:in|after|by|during) )"
)


def _of_end(text: str, at: int) -> int:
    """End of "40% of the eggs", "a 10% discount", "50% more expensive"."""
    match = _OF_SHARE.match(text, at) or _SHARE_NOUN.match(text, at)
    if match is None:
        return at
    if match.re is _OF_SHARE and (more := _OF_MORE.match(text, match.end())):
        return more.end()
    left = re.compile(r" (?:remaining|left)\b(?: in the [a-z]+)?").match(text, match.end())
    return left.end() if left else match.end()


_OF_SHARE = re.compile(
    r" of (?:(?:the|his|her|their|its|all|these|those|this|that|my|our) )*"
    r"(?:(?:volume|number|amount|total|rest|weight|length|price|cost|value) of (?:the )?)?"
    r"[\w’'-]+"
    r"(?: (?!together\b|in\b|on\b|at\b|for\b|from\b|to\b|and\b|when\b|is\b|are\b|was\b"
    r"|were\b|have\b|has\b"
    r"|had\b|who\b|that\b|which\b|with\b|by\b|are\b|as\b|go\b|goes\b)[a-z’'-]+)?"
)
#: "6% of the sales of the hardcover version": what the share is of, to its end.
_OF_MORE = re.compile(
    r" of (?:the|his|her|their|its|all) (?:[a-z-]+ ){0,5}?[a-z-]+(?= and\b|[.,;]|$)"
)
_SHARE_NOUN = re.compile(
    r"(?: [a-z]+){0,2}? (?:fee|charge|bonus|chance|reduction|discount|tax|tip|raise|interest|profit"
    r"|increase|decrease|commission|off|(?:more|less)(?: [a-z]+(?:ive|ful|ous|ent|ant|al))?|fewer"
    r"|longer|taller|bigger|larger|faster|slower|higher|lower|cheaper|heavier|older|younger"
    r"|shorter|smaller|greater)\b"
)
