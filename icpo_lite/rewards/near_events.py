"""Questions that ask for another event than a removed fact tells of: when, what was done, by whom.

Another time, what was added to what is there, what is done already, the whole of a part, a rate,
what is in a purse, the opposite deed. `near_misses` asks these and its own.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from icpo_lite.core.words import bag, stem
from icpo_lite.rewards.fact_reading import Asked, Fact, Frame

_WORD = re.compile(r"[A-Za-z][A-Za-z']*")

# ------------------------------------------------------------------------------- another time

_WEEKDAY = re.compile(r"\b(mon|tues|wednes|thurs|fri|satur|sun)days?\b", re.IGNORECASE)
_MONTH = re.compile(
    r"\b(January|February|March|April|May|June|July|August|September|October|November|December)\b"
)
_SPAN = r"(?:week|weekend|month|year|summer|winter|spring|fall|season|night|holiday|semester)"
_WHICH = re.compile(
    rf"\b(last|past|previous|this|current|next|coming|upcoming|following) {_SPAN}\b"
    rf"|\b{_SPAN} (before)\b(?: last\b)?(?! (?:this|that)\b)",
    re.IGNORECASE,
)
_PART_OF_DAY = re.compile(r"\b(morning|afternoon|evening|night|noon)s?\b", re.IGNORECASE)
_DAY = re.compile(r"\b(yesterday|today|tonight|tomorrow)\b", re.IGNORECASE)
_SAME_TIME = {
    **dict.fromkeys(("past", "previous"), "last"),
    **dict.fromkeys(("coming", "upcoming", "following"), "next"),
    "current": "this",
    "tonight": "today",
}


@lru_cache(maxsize=16384)
def _times(text: str) -> tuple[frozenset[str], ...]:
    """The times that a text names, of each kind of name: weekdays, months, "last week" …"""
    found = []
    for pattern in (_WEEKDAY, _MONTH, _WHICH, _PART_OF_DAY, _DAY):
        words = (next(filter(None, m.groups())).lower() for m in pattern.finditer(text))
        found.append(frozenset(_SAME_TIME.get(word, word) for word in words))
    return tuple(found)


#: A time besides the one that a problem tells of, where it names none.
_ELSEWHEN = re.compile(
    rf"\b(?:last|previous|next) {_SPAN}\b|\b(?:yesterday|tomorrow)\b"
    rf"|\b(?:before|after) this {_SPAN}\b|(?<= )(?:before|after) this one\b",
    re.IGNORECASE,
)


def other_time(question: str, _asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many on Friday?" against "On Monday, …"."""
    pairs = list(zip(_times(question), _times(fact.text), strict=True))
    if any(hers and its and not hers & its for hers, its in pairs):
        return True
    named = {stem(m[0].split()[0].lower()) for m in _ELSEWHEN.finditer(question)}
    return bool(named) and not any(its for _, its in pairs) and not named & frame.nouns


# ------------------------------------------------ what was added, what is there, what is planned

_ADDED = re.compile(
    r"\b(?:additional|extra|another)\b"
    r"|\b(?:puts?|give|gave|given|pay|paid|add|added|return|returned|take|took) (?:\w+ ){0,3}back\b"
    r"|\bback (?:in|into)\b"
    r"|(?<!how many )(?<!how much )\bmore\b(?! (?:precise|specific|exact))"
    r"(?!(?: [a-z]+){0,3} than\b)(?! or less)",
    re.IGNORECASE,
)
_SAYS_ADDED = re.compile(
    r"\b(?:additional|extra|another|back|again|more|further|adds?|added|adding|along)\b", re.I
)
_DONE = re.compile(r"\b(?:already|so far|up to now|until now|by now)\b", re.IGNORECASE)
_TO_BE_DONE = re.compile(
    r"\b(?:needs?|wants?|has|have|plans?|hopes?|intends?|supposed|decides?) to\b|\b(?:must|will)\b",
    re.IGNORECASE,
)
_DONE_BY = re.compile(r"\b(?:already|so far|currently|now)\b", re.IGNORECASE)
_AT_FIRST = re.compile(
    r"\b(?:at first|initial\w*|original\w*|to (?:begin|start) with|beg[ia]n\w* with"
    r"|start\w* (?:out |off )?with|at the (?:start|beginning|outset))\b",
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"\b(?:adds?|added|adding|another|additional|extra|gave|gives|ate|eats|lost|loses|sold|sells"
    r"|removed?|removes|threw|donate[sd])\b",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"\b(?:full|entire|whole)\b", re.IGNORECASE)
_WHOLE_OF = re.compile(r"\b(?:the|his|her|their) (?:full|entire|whole|total)\b", re.IGNORECASE)
_PASSED = re.compile(
    r"\b(?:ha[sd]|have) (?:already |just |only )?(?:\w+ed|been|done|eaten|made|read|run|taken)\b"
    r"|\b(?:already|so far)\b",
    re.IGNORECASE,
)


_EVENT = re.compile(r"\b(?:before|after|when|once|until|prior to)\b.*", re.IGNORECASE | re.DOTALL)


def main(question: str) -> str:
    """A question without the event that says when; the whole where it opens with one."""
    return _EVENT.sub("", question) if _EVENT.sub("", question).strip() else question


def added(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How many did she put back?" against "There were 90 in the jar"."""
    if fact.tells.compared or _SAYS_ADDED.search(fact.text):
        return False
    return bool(_ADDED.search(main(question)))


def at_first(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How many did she have at first?" against "She gave 12 away"."""
    if _AT_FIRST.search(fact.text) or "~own" in fact.clause:
        return False
    return bool(_AT_FIRST.search(question) and _CHANGED.search(fact.said))


def done(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How many has he polished already?" against "He has to polish 10"."""
    if not _DONE.search(question) or _DONE_BY.search(fact.text):
        return False
    return bool(_TO_BE_DONE.search(fact.said))


def whole(question: str, asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How many games has the full season?" against "They have played 15 this season"."""
    if _WHOLE_OF.search(question) and fact.places and not asked.places:
        return True
    if _WHOLE.search(fact.text) or not _WHOLE.search(question):
        return False
    return bool(_PASSED.search(fact.said))


# ------------------------------------------------- rates, purses, opposites

_DAYS = bag("daily today tomorrow yesterday night nightly morning evening morn")


#: "Al bakes 3 pies a day, Bo can bake 6": the time of a rate may be left out of the next.
_CAN = re.compile(r"\b(?:can|could|able to)\b", re.IGNORECASE)


def rate(_question: str, asked: Asked, fact: Fact, frame: Frame) -> bool:
    """ "How many pages a night does he read?" against "He skipped 16 pages"."""
    said = {word.lower() for word in _WORD.findall(fact.text)}
    return (
        bool(asked.per)
        and not _CAN.search(fact.said)
        and not any(
            word.startswith(per) or (per == "day" and word in _DAYS)
            for per in asked.per
            for word in said
        )
    )


_HAS_MONEY = re.compile(
    r"\b(?:money|cash|much|dollars)\b(?: [a-z]+){0,4}? (?:have|has|had|got|bring|brought|carry"
    r"|carrying)\b(?! to\b)",
    re.IGNORECASE,
)
_PAYS = re.compile(r"\b(?:spen[dt]s?|spending|pays?|paid|costs?|bought|buys?|price[sd]?)\b", re.I)
_HOLDS_MONEY = re.compile(r"\b(?:ha[sd]|have|with|br(?:ings?|ought)|sav(?:es?|ed))\b", re.I)


def purse(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How much money did she have on her?" against "She bought a pair for $22"."""
    has = _HAS_MONEY.search(question) and not _PAYS.search(question)
    return bool(has and _PAYS.search(fact.said) and not _HOLDS_MONEY.search(fact.said))


_OPPOSITES = [
    tuple(re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for words in pair)
    for pair in (
        ("br(?:ings?|ought|inging)|c(?:arry|arries|arried)", "leaves?|leaving|left behind"),
        ("wins?|won|winning|gain(?:s|ed)?", "los(?:es?|t|ing)"),
        ("lends?|lent|lending", "borrow(?:s|ed|ing)?"),
        ("sends?|sent|sending", "receives?|received|receiving"),
        ("pass(?:es|ed)?", "fail(?:s|ed)?"),
        ("accept(?:s|ed)?", "reject(?:s|ed)?|refuse[sd]?"),
        ("remember(?:s|ed)?", "forg[eo]ts?|forgot(?:ten)?"),
        ("arrives?|arrived|came|comes?", "departs?|departed|went away"),
        ("ate|eats?|eaten|eating", "cook(?:s|ed)?|bakes?|baked|makes?|made"),
        ("finds?|found", "los(?:es?|t|ing)"),
        ("adds?|added", "removes?|removed|took out|takes? out"),
    )
]


def opposite(question: str, _asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How many did he leave at home?" against "He brings 10"."""
    told = main(question)
    return any(
        hers.search(told)
        and its.search(fact.said)
        and not (its.search(told) or hers.search(fact.said))
        for pair in _OPPOSITES
        for hers, its in (pair, pair[::-1])
    )


_MORE = re.compile(r"\b(?:additional|another|second|extra|more|other|new)\b", re.IGNORECASE)


def first(_question: str, asked: Asked, fact: Fact, _frame: Frame) -> bool:
    """ "How much was the first one?" against "He bought additional land for $4000"."""
    return "first" in asked.places and not fact.places and bool(_MORE.search(fact.said))
