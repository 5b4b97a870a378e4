"""Verbs, subjects and separators of a clause, as far as word problems need them.

The lists hold the verbs that stand behind pronouns in word problems, in the forms they have there.
What is no verb of the lists and no regular past is taken for no verb, so that a rule which looks
for one does nothing where it is unsure.

The tables: written by hand and changed while q* of GSM8K's training half were read (seven draws of
200; the last held 1 faulty one), so figures on that half are of data that the author has seen.
tests/claims/tables.json has what each is worth alone: without any one of them fewer than 2 q* of
153 change; several cover the same clauses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.sentences import is_plural
from icpo_lite.core.words import bag
from icpo_lite.data.labels import is_label
from icpo_lite.data.unit_words import MEASURES, TIMES

AUXILIARIES = bag("is are was were has have had will can could would must should does did")
VERBS = AUXILIARIES | bag(
    "adds ate asks bakes baked begins began bought brings brought builds built buys came catches "
    "caught charges chooses chose comes contains costs counts cuts cut decides delivers donates "
    "draws drew drinks drank drives drove drops earns eats ends fell feeds fed fills finds found "
    "finishes fixes gains gathers gave gets gives goes got grew grows harvests hires hits holds "
    "hosts invites joins keeps kept knits knows lays leaves left lends lent lifts lives loses lost "
    "makes made manages meets met mows needs needed offers opens orders owes owns packs paid "
    "paints pays performs picks plans plants plays practices produces puts put ran reads read "
    "rides receives removes rents rode runs said sat saves saw scores sees sells sends sent serves "
    "sews sings sleeps slept sold spends spent stands starts stays sang swims swam takes taught "
    "teaches throws threw took travels trades types uses visits wakes walks wants washes watches "
    "wears weighs went wins won works writes wrote requires invests deposits collects climbs jogs "
    "returns sets burns rolls borrows cooks cleans bikes hikes carries decorates downloads divides "
    "increases decreases splits shares"
)
#: Words in -ed that name no action of a subject, or that a noun shares.
NO_VERBS = bag(
    "red hundred bed seed need speed feed weed shed sled indeed colored sized aged used sliced "
    "shaped flavored limited united advanced striped fried baked priced called named"
)
VERB = rf"(?:{'|'.join(sorted(VERBS))}|[a-z]{{3,}}ed)"


def _base(verb: str) -> str:
    if verb.endswith(("shes", "ches", "xes", "sses", "oes")):
        return verb[:-2]
    return verb[:-3] + "y" if verb.endswith("ies") else verb[:-1]


BASES = frozenset(
    _base(v) for v in VERBS - AUXILIARIES if v.endswith("s") and v not in ("was", "is")
) | bag("are have were need cost")
BASE = rf"(?:{'|'.join(sorted(BASES))})"
#: A regular past that has an object, and is no participle behind a noun ("cakes baked in rows").
_DONE = (
    rf"(?:{'|'.join(sorted(VERBS))}|[a-z]{{3,}}ed(?= (?:an?|the|his|her|its|their|another|out|up"
    r"|[$£€\d]|one|two|three|four|five|six|seven|eight|nine|ten|twice|half)(?!\w)))"
)
FINITE = re.compile(
    rf"\b(?<!-){VERB}\b(?!-)"
    rf"|(?:(?<=\b[Tt]hey )|(?<=\b[Ww]e )|(?<=\b[Yy]ou )|(?<=\bI )){BASE}\b"
)

_WORD = r"(?:(?!that\b|which\b|who\b|if\b|when\b)[a-z][a-z’'-]*)"
NUMBER_WORD = (
    r"(?:half|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|two|three|four|five|six|seven"
    r"|eight|nine|ten|eleven|twelve|[a-z]+teen"
    r"|(?:a|one|two|three|four|five)[- ](?:third|half|quarter|fourth|fifth|sixth|eighth|tenth)s?)"
)
_COUNT = rf"(?:only |about |another )?(?:[\d,.]+%?|\d+/\d+|{NUMBER_WORD})"
_ADVERB = r"(?:also |then |only |each |still |now |just )?"
OWN_SUBJECT = re.compile(
    rf"(?:there|he|she|they|it|[A-Z][a-z]+(?: [A-Z][a-z]+)?(?:['’]s {_WORD}(?: {_WORD})?)?)"
    rf" {_ADVERB}(?P<verb>{VERB})\b(?!-)"
    rf"|{_COUNT} of (?:the|his|her|their|these|those|them|which)(?: {_WORD}){{0,3}}?"
    rf" {_ADVERB}(?P<share>{VERB})\b(?!-)"
    rf"|(?:(?:the|a|an|each|every|another|one|his|her|their|its|my|our"
    rf"|your)(?: {_WORD}){{1,4}}?(?: [A-Z][a-z]+)?"
    rf"|{_COUNT}(?: {_WORD}){{1,3}}?"
    rf"|(?!(?:that|which|who|whose|and|or|to|as|when|where|if|it|only|also|then|still|now|already"
    rf"|just|has|have|had|is|are|not|[a-z]+ly)\b)[a-z]+) {_ADVERB}(?P<done>{_DONE})\b(?!-)"
    rf"|(?:{_COUNT}(?: {_WORD}){{0,2}}? |(?:the |all )?(?:[a-z]+ )?)"
    rf"(?:[a-z]+(?<!s)s|people|children) (?:each |also |only )?(?P<base>{BASE})\b(?!-)"
)
SUBJECT = re.compile(
    rf"(?:I|we|you|he|she|they|it|\d[\d,]*(?: {_WORD}){{1,4}}?"
    rf"|[A-Z][\w’'.]*(?: [\w’'-]+){{0,5}}?)"
    rf" (?=(?:also |then |only |each |just |still |now |already |usually )?(?P<verb>{VERB})\b)",
    re.IGNORECASE,
)
#: "Last week, ", "On Monday, ": words before the subject.
LEADING = re.compile(r"(?:(?:[A-Z][a-z]+|[A-Z][a-z]+(?: [\w’']+){1,5}), )?")
ADVERBIAL_OPENING = re.compile(
    r"(?:in|on|at|for|from|after|before|during|if|when|while|since|because|with|by|every time|of"
    r"|to|within|per|under|without|through|over|as|given|assuming|according)\b",
    re.IGNORECASE,
)
SEPARATOR = re.compile(
    r",? (?:and|but|while|whereas|plus|as well as)(?: (?:also|then|finally))? |, then |; |, "
)
#: A sentence with one of these says one thing of all its clauses.
ENTANGLED = re.compile(
    r"\b(?:respectively|each other|if|unless|until|so that|every time|each time|whenever|whose"
    r"|either|neither|between|or|out of)\b",
    re.IGNORECASE,
)
#: A list under one of these words says something of all its members at once.
COLLECTIVE = re.compile(
    r"\b(?:together|altogether|total|in all|combined|respectively|between|both|either|or|ratio"
    r"|same|equal(?:ly)?|shar\w+|split\w*|divid\w+|mix\w*|each other|sum|average|difference"
    r"|among|out of|if|unless|until|when|because|so that|every time|whose|not|never|no)\b|n't",
    re.IGNORECASE,
)
#: Words with which a clause points back, so that it cannot stand alone.
_REFERS = re.compile(
    r"\b(?:it|its|they|them|their|those|these|this|that (?!(?:costs?|each|weighs?|holds?|contains?"
    r"|has|have|is|are|was|were|can|could|will)\b)[a-z]+|the (?:rest|remaining|remainder|same"
    r"|latter|former)|the (?:first|second|third|fourth|fifth|last|next)(?= one|[.,]|$"
    r"| (?:is|was|has|had|costs?)\b)|others?|another|such|as many|as much|more|fewer|less|twice"
    r"|thrice|half|double|triple|times|both|neither|instead|rest|one for|one of|later|again|after"
    r"|before|next|following|previous)\b",
    re.IGNORECASE,
)
#: "Her sister is 5" says an age.
_AGE = re.compile(r"\b(?:is|was|will be|turns) $")
_SAYS_OF_WHAT = re.compile(
    r"(?:more|fewer|less|as (?:many|much)) (?:[\w’'-]+ ){0,4}?(?:than|as) [a-zA-Z]"
)


@lru_cache(maxsize=4096)
def counted(text: str) -> tuple[NumberMention, ...]:
    """The numbers of a text that are facts, in order; labels are left out."""
    return tuple(m for m in numbers(text) if not is_label(text, m))


def values(text: str) -> Counter[object]:
    """How often each number that is a fact occurs in a text."""
    return Counter(m.value for m in counted(text))


def points_back(segment: str, *, bare: bool = False) -> bool:
    """Whether a part of a sentence lacks a number, a noun or a referent of its own.

    bare: a number without a noun will do, as "11 to Caleb" in a list.
    """
    found = counted(segment)
    lacks = not bare and any(
        m.kind == "cardinal" and not m.unit and not _AGE.search(segment, 0, m.start) for m in found
    )
    return not found or lacks or bool(_REFERS.search(_SAYS_OF_WHAT.sub(" ", segment)))


def cut_at(text: str, places: Sequence[re.Match[str]]) -> list[tuple[str, str]]:
    """(separator, segment) pairs of a text; the first separator is empty."""
    starts = [0, *(p.end() for p in places)]
    ends = [*(p.start() for p in places), len(text)]
    separators = ["", *(p[0] for p in places)]
    return [(sep, text[a:b]) for sep, a, b in zip(separators, starts, ends, strict=True)]


def merged(segments: Sequence[tuple[str, str]], *, bare: bool = False) -> list[str]:
    """Segments in order; one that cannot stand alone joins the one before it."""
    out: list[str] = []
    for separator, segment in segments:
        said = with_antecedent(segment, out[-1]) if out else segment
        if out and (not counted(out[-1]) or points_back(said, bare=bare)):
            out[-1] += separator + segment
        else:
            out.append(said)
    return out


_OF_THEM = re.compile(
    r"((?:(?<!three )(?<!two )(?<!four )(?<!five )\b[Oo]f|\b(?:[Hh]alf|[Aa]ll)) )(?:them|those"
    r"|these)\b(?! [a-z]+s\b)"
)
#: "Each of them ate 2 slices" tells of people, whatever was counted before.
_THEY_EAT = re.compile(
    r"(?:Each|All|Both|Half|Most|Some|None) of (?:them|those) (?:ate|eats?|drank|drinks?|bought"
    r"|buys?|paid|pays?|ordered|orders?|wanted|wants?|read|reads|wore|drove|drives?|worked|works|earned)\b"
)
_THOSE_WHO = re.compile(r"(?<=\b[Oo]f )those(?= (?:who|that|which)\b)")


def with_antecedent(segment: str, before: str) -> str:
    """ "half of them" → "half of the kids", where kids are all that the text before counts."""
    noun = counted_noun(before)
    if not noun or _THEY_EAT.match(segment):
        return segment
    segment = re.sub(rf"\b(?:those|these) (?={noun}\b)", "the ", segment, count=1)
    segment = _THOSE_WHO.sub(f"the {noun}", segment, count=1)
    return _OF_THEM.sub(lambda m: f"{m[1]}the {noun}", segment)


def counted_noun(sentence: str) -> str:
    """The one plural noun that a sentence counts; "" where there is none, or a choice."""
    nouns = {
        sentence[m.end : m.unit_end].strip()
        for m in numbers(sentence)
        if m.kind == "cardinal" and m.unit and m.unit not in TIMES | MEASURES
    }
    plural = {n for n in nouns if (is_plural(n.rsplit(" ", 1)[-1]) or n.endswith("people"))}
    return plural.pop() if len(plural) == 1 else ""


def has_verb(segment: str) -> bool:
    """Whether a member of a list holds a clause of its own, relative clauses left aside."""
    for verb in FINITE.finditer(segment):
        before = segment[: verb.start()].rstrip().rsplit(" ", 1)[-1].lower()
        if verb[0] in NO_VERBS or before in ("that", "which", "who", "each"):
            continue
        if verb[0] in VERBS or verb.end() == len(segment.rstrip(". ")):
            return True
    return False
