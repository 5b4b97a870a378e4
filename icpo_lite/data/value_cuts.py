"""How a value leaves a request so that it stays readable.

Where the function misses the value anyway, the phrase that says it goes: "in Paris", "Thai" before
"food", "a=1," in a list. Else a gap takes its place: "a certain year", "a certain number of days",
"the next few years".

The tables: written by hand; no figure of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from icpo_lite.core.numbers import numbers
from icpo_lite.core.words import bag, is_plural, stem
from icpo_lite.data.gold_values import GoldValue
from icpo_lite.data.text_edits import Cut, Edit


@dataclass(frozen=True, slots=True)
class SaidValue:
    """A value where it stands in a request, and how it goes.

    noun: what the fact calls it. cut: leaves the request readable. gap: what then stands in its
    place, "" where nothing does. context: the gap with the words before it.
    """

    gold: GoldValue
    surface: str
    noun: str
    cut: Cut
    gap: str
    context: str = ""

    @property
    def statement(self) -> str:
        """The fact as a sentence of its own: "The year is 2014."."""
        said = self.surface.strip().rstrip(".")
        if len(self.noun) <= 2:
            return f"Take {self.noun} = {said}."
        if self.noun in _SAYS_LITTLE and self.context:
            return f'In "{self.context}", the {self.noun} is {said}.'
        plural = is_plural(self.noun.split()[-1]) and " of " not in self.noun
        if plural and not re.search(r",|\band\b", said):
            return f"The {self.noun}: {said}."
        return f"The {self.noun} {'are' if plural else 'is'} {said}."


_PREPOSITIONS = (
    r"(?:in|at|for|from|to|of|on|by|with|using|about|near|into|as|via|through|under|within|during"
    r"|named|called|titled|starring|against|around|towards?)"
)
_FOLLOWING = _PREPOSITIONS.replace("|of", "")
_BEFORE = re.compile(rf"\s{_PREPOSITIONS}\s+(?:the\s+|a\s+|an\s+)?[\"'`]?$", re.IGNORECASE)
_AFTER = re.compile(
    rf"[\"'`]?(?:\s*(?:[,;:?!]|\.(?!\d)|$)|\s+(?={_FOLLOWING}\b|(?:if|when|that|which|who|whose|while|where"
    r"|assuming|given|after|before|over|without|and then)\b))",
    re.IGNORECASE,
)
_NAMED = re.compile(r"(?P<lead>(?:^|[\s(,])(?:and\s+)?)(?P<name>\w+)\s*=\s*$")
_MODIFIES = re.compile(
    r"[\"'`]?\s+(?=[a-z]{3,})(?!(?:and|or|are|was|were|has|have|had|will|would|can|could|should"
    rf"|is|if|who|that|which|when|than|then|but|not|{_PREPOSITIONS}|after|before|over|between|without"
    r"|where|while)\b)"
)
_DETERMINER = re.compile(
    r"\b(?:an?|the|his|her|its|my|our|your|their|this|that|each|every)\s+$", re.I
)


def cut_value(text: str, start: int, end: int, gold: GoldValue, task: str) -> SaidValue | None:
    """The way in which the value goes: deleted where the function misses it, else a gap."""
    if task == "actions" and gold.required:
        phrase_end = _with_unit(text, start, end)
        before = _BEFORE.search(text, max(0, start - 24), start)
        after = _AFTER.match(text, phrase_end)
        if before and after and not _holds_fast(text, before.start(), after.end()):
            quote = re.compile(r"[\"'`]?").match(text, phrase_end)
            stop = quote.end() if quote else phrase_end
            return _deleted(text, start, end, gold, before.start(), stop)
        measure = phrase_end > end and not is_plural(text[end:phrase_end].strip())
        if measure and not is_word(gold) and _MODIFIES.match(text, phrase_end):
            return _deleted(text, start, end, gold, start, phrase_end + 1)  # "a 150 meter fall"
        named = _NAMED.search(text, max(0, start - 40), start)
        if named:
            return _deleted(text, start, end, gold, *_listed(text, named.start("name"), end))
        if _is_modifier(text, start, end, gold):
            return _deleted(text, start, end, gold, start, end + 1)
    return gap_cut(text, start, end, gold)


def _listed(text: str, start: int, end: int) -> tuple[int, int]:
    """An item of "a=1, b=-3, c=2" with the comma that goes with it."""
    if after := re.compile(r",\s*(?:and\s+)?").match(text, end):
        return start, after.end()
    before = re.compile(r",?\s*(?:and\s+)?$").search(text, max(0, start - 8), start)
    return (before.start() if before else start), end


def _holds_fast(text: str, start: int, end: int) -> bool:
    """Whether what stands around a phrase needs it: "the time is | under 30 minutes", "between A
    and B", "in Sydney, Australia"."""
    clings = re.search(
        rf"\b(?:is|are|was|were|be|{_PREPOSITIONS}|and|or|than)$",
        text[max(0, start - 12) : start],
        re.I,
    )
    place = re.match(r",\s+[A-Z]", text[end - 1 : end + 4])
    return bool(clings or place) or _in_a_pair(text, start)


def _is_modifier(text: str, start: int, end: int, gold: GoldValue) -> bool:
    """Whether a word can go from before its noun: "Thai" in "Thai food"."""
    surface = text[start:end]
    if not is_word(gold) or is_quoted(text, start) or len(surface.split()) > 2:
        return False
    if re.match(r"(?:an?|the)\b", surface, re.I) or re.search(
        r"\b(?:and|or)\s+$", text[max(0, start - 5) : start]
    ):
        return False
    noun = re.match(r"\s+(\w+)", text[end:])
    if noun is None or stem(noun[1]) in {stem(word) for word in gold.noun.split()}:
        return False  # "in ascending order" without it says that there is an order
    return bool(_MODIFIES.match(text, end)) and not noun[1].endswith(("ed", "ing"))


def is_word(gold: GoldValue) -> bool:
    return isinstance(gold.values[0], str)


def is_quoted(text: str, start: int) -> bool:
    return text[start - 1 : start] in ("'", '"', "`")


def _in_a_pair(text: str, at: int) -> bool:
    """Whether the phrase is an end of "between A and B"."""
    return bool(re.search(r"\b(?:between|both)\b[^.?!]{0,80}$", text[max(0, at - 90) : at], re.I))


_UNIT = re.compile(
    r"[\s-]?(?:(?:square|cubic)\s)?(?:°\s?[CF]?|%|[a-zA-Z]{1,3}(?:[²³]|\^\d|/[a-zA-Z]+(?:\^\d)?)?(?!\w)"
    r"|[a-zA-Z]+/[a-z]+(?:\^\d)?"
    r"|(?:degrees?(?:\s(?:Celsius|Fahrenheit|C|F)\b)?|(?:kilo|centi|milli)?(?:met(?:er|re)|gram|lit(?:er|re))s?"
    r"|miles?|feet|foot|inch(?:es)?|pounds?|ounces?|hours?|minutes?|seconds?|days?|weeks?|months?|years?"
    r"|units?|amperes?|amps?|volts?|joules?|newtons?|coulombs?|ohms?|kelvin|hertz|watts?)\b)",
    re.IGNORECASE,
)
_NO_UNITS = bag(
    "in at to of on by as is am an and the for if or but so its it has was can may per who "
    "how via are do did not all my me we he she us i a be you"
)


def _with_unit(text: str, start: int, end: int) -> int:
    """Behind the unit that a number carries ("6cm", "10 units")."""
    if not re.search(r"\d$|\w$", text[start:end]):
        return end
    mention = next((m for m in numbers(text) if m.start == start and m.end == end), None)
    if mention is None:
        return end
    noun = text[end : mention.unit_end].split()
    if len(noun) == 1 and is_plural(noun[0]):
        return mention.unit_end
    unit = _UNIT.match(text, end)
    if unit and unit[0].strip().lower() not in _NO_UNITS:
        return unit.end()
    return end


def _deleted(
    text: str, start: int, end: int, gold: GoldValue, cut_start: int, cut_end: int
) -> SaidValue:
    unit_end = _with_unit(text, start, end)
    noun, surface = gold.noun, text[start:unit_end]
    cut = Cut("value", (Edit(cut_start, cut_end),), gold.noun)
    return SaidValue(gold, surface, noun, cut, "")


def gap_cut(text: str, start: int, end: int, gold: GoldValue) -> SaidValue | None:
    """ "older than 20" → "older than a certain age"; None where no gap can stand."""
    if re.search(r"\bhow (?:many|much)\s+$", text[max(0, start - 12) : start], re.IGNORECASE):
        return None
    noun, stop = _gap_noun(text, start, end, gold)
    surface = text[start:end]
    if _RANKED.search(text, max(0, start - 24), start) and noun.startswith("number of "):
        cut = Cut("gap", (Edit(start, end, "few"),), "few")
        return SaidValue(gold, surface, noun, cut, "few")
    begin = start
    if is_quoted(text, start) and text[end : end + 1] == text[start - 1]:
        begin, stop = start - 1, max(stop, end + 1)
    called = re.sub(r"\s+\d+$", "", noun)
    begin, stop = _with_own_name(text, begin, stop, called)
    if determiner := _DETERMINER.search(text, max(0, begin - 8), begin):
        begin = determiner.start()
    gap = f"a certain {called}"
    if " of " not in called and is_plural(called.split()[-1]):
        gap = f"certain {called}"
    before = _WORDS_BEFORE.search(text, max(0, begin - 60), begin)
    context = " ".join(f"{before[0] if before else ''}{gap}".split())
    return SaidValue(gold, surface, noun, Cut("gap", (Edit(begin, stop, gap),), gap), gap, context)


#: Nouns that do not tell one value from another.
_SAYS_LITTLE = frozenset({"number", "text", "value"})
_WORDS_BEFORE = re.compile(r"(?:[\w'’-]+\s+){1,4}$")


def _with_own_name(text: str, start: int, end: int, noun: str) -> tuple[int, int]:
    """The stretch with the noun that stands before or behind the value: "year 300", "red color"."""
    own = {stem(word) for word in noun.split() if word not in ("of", "the", "to", "from")}
    after = re.compile(r"[\s-]+([A-Za-z]+)\b").match(text, end)
    while after and stem(after[1]) in own:
        end = after.end()
        after = re.compile(r"[\s-]+([A-Za-z]+)\b").match(text, end)
    before = re.compile(r"([A-Za-z]+)\s+(?:id\s+|called\s+|named\s+)?$", re.I).search(
        text, max(0, start - 40), start
    )
    while before and stem(before[1]) in own:
        start = before.start(1)
        before = re.compile(r"([A-Za-z]+)\s+$").search(text, max(0, start - 40), start)
    return start, end


#: Words before a count that "a certain number of" cannot follow: "the next 5 years".
_RANKED = re.compile(
    r"\b(?:top|first|last|bottom|next|past|previous|most|best|worst|\w+est)\s+$", re.I
)


def _gap_noun(text: str, start: int, end: int, gold: GoldValue) -> tuple[str, int]:
    """What stands for the value, and where the words that it replaces end."""
    mention = next((m for m in numbers(text) if m.start == start and m.end == end), None)
    noun = gold.noun if len(gold.noun) > 2 else ("number" if mention else "value")
    if mention is None:
        return noun, end
    if mention.kind == "money":
        return "amount", max(end, mention.unit_end)
    if mention.kind == "percent":
        return "percentage", end
    if mention.unit_end > end and is_plural(text[end : mention.unit_end].split()[-1]):
        return f"number of {text[end : mention.unit_end].strip(' -')}", mention.unit_end
    stop = _with_unit(text, start, end)
    if stop > end:
        return f"number of {text[end:stop].strip(' -')}", stop
    return noun, end
