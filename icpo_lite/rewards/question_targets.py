"""What a reply asks the user for, and whether that is what the prompt lacks.

A question is compared with every fact of the problem, removed or given, by its keys: the people
and things it names, the relation it asks about (have, buy, lose, cost …) and its other content
words. Keys that all facts share say little and weigh little. A question is *targeted* when the
fact that it resembles most is a removed one; it *repeats* when that fact is there to read; and
when it resembles the problem's own question most, it only hands the task back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from icpo_lite.core.numbers import numbers
from icpo_lite.core.plain_text import LONGEST
from icpo_lite.core.questions import questions
from icpo_lite.core.sentences import entities, sentences
from icpo_lite.core.types import Prompt, Shard
from icpo_lite.core.words import content_words, stem
from icpo_lite.rewards import languages
from icpo_lite.rewards.courtesies import closes, is_courtesy
from icpo_lite.rewards.features import strip_markup


def _bag(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Verbs and nouns that name the same relation between somebody and a quantity.
_RELATIONS = {
    "own": "have has had having own owns possess start starts started begin begins holds keep "
    "initial initially",
    "buy": "buy buys bought buying purchase purchases purchased shop shopping pick acquire order",
    "lose": "lose loses lost losing drop drops dropped misplace misplaced",
    "gift": "give gives gave given giving gift gifts get gets got receive receives received "
    "present donate donated donates",
    "sell": "sell sells sold selling sale sales",
    "cost": "cost costs price prices priced pay pays paid charge charges spend spends spent "
    "worth fee expense expensive dollar dollars cents",
    "earn": "earn earns earned earning salary wage wages income revenue profit",
    "weigh": "weigh weighs weighed weight heavy pound pounds kilogram kilograms ounce ounces",
    "capacity": "capacity carry carries fit fits hold holds contain contains",
    "eat": "eat eats ate eaten eating snack snacks consume consumes consumed",
    "find": "find finds found",
    "age": "age ages old older younger",
    "far": "far distance mile miles kilometer kilometers length long",
    "fast": "speed fast mph rate",
    "time": "hour hours minute minutes duration",
}
_GROUP = {word: f"~{name}" for name, group in _RELATIONS.items() for word in group.split()}
#: Words that a request is made of and that say nothing about the problem.
_FLUFF = _bag(
    "many much number numbers amount amounts total know need needed needs provide tell give "
    "information info detail details specific exact please share specify clarify calculate "
    "determine figure answer question help let could would can clarification value values "
    "additional required following more make sure also still actual current currently mean "
    "means first order able problem missing find compute solve work thing things bit little"
)
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")
_PARENTHESIS = re.compile(r"\((?:e\.g\.|for example|i\.e\.|such as)[^)]*\)", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+(.*)$")
_REQUEST = re.compile(
    r"\b(?:please|kindly)\s+(?:\w+\s+)?(?:provide|share|tell|specify|clarify|give|supply|state"
    r"|confirm|let me know)\b"
    r"|\b(?:could|can|would) you (?:please |also |kindly )*(?:provide|share|tell|specify|clarify"
    r"|give|supply|state|confirm|let me know)\b"
    r"|\btell me (?:the|how|what|which|who|when|where|whether|about)\b"
    r"|\blet me know (?:the|how|what|which|who|when|where|whether)\b"
    r"|\b(?:i|we)(?:'ll|'d| would| will)?(?: still| also| just| only)* (?:need|require|must know)\b"
    r"(?! to (?:calculate|find|determine|add|subtract|multiply|divide|use|follow|compute))",
    re.IGNORECASE,
)
_OFFER = re.compile(
    r"\b(?:if|once) you (?:can |could )?(?:provide|share|tell|give|specify|let me know)\b",
    re.IGNORECASE,
)
_TO_DO = re.compile(
    r"^\W*(?:now,? |so,? |but )?(?:in order )?to \w+[^,?]{0,120},\s*", re.IGNORECASE
)
_SO_THAT = re.compile(
    r"[,;]?\s*\b(?:so (?:that )?(?:we|i)\b|and (?:then )?(?:i'll|i will|i can|we can)\b"
    r"|(?:in order )?to (?:calculate|find|determine|compute|finish|solve|answer|proceed)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_LEADS_LIST = re.compile(r":\s*$")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')*]*\s+|\n+")


@lru_cache(maxsize=16384)
def asked(reply: str) -> tuple[str, ...]:
    """The things a reply asks the user for, one text each, in order.

    Sentences with a question mark, requests without one ("please tell me the price"), and the
    items of a list that a request leads in; what a request is for ("… so that I can add them") is
    cut off. Courtesies ("does this make sense?") are none; offers ("once you tell me the price, I
    can …") count where nothing else asks.
    """
    reply = strip_markup(reply)
    if languages.speaks_another(reply):
        return tuple(languages.questions(tuple(_SENTENCE.split(reply))))
    if not ("?" in reply or _REQUEST.search(reply) or _OFFER.search(reply)):
        return ()
    units: list[str] = []
    offers: list[str] = []
    listing = -1
    for line in _PARENTHESIS.sub(" ", reply).split("\n"):
        item = _ITEM.match(line)
        if item is not None and listing >= 0:
            if listing and units:
                units.pop()
            listing = 0
            units.append(item[1].strip())
            continue
        if line.strip():
            listing = -1
        for sentence in _SENTENCE.split(line):
            if _asks(sentence):
                units.append(_core(sentence))
                listing = 1 if _LEADS_LIST.search(sentence.rstrip(" *")) else -1
            elif match := _OFFER.search(sentence):
                offers.append(_core(sentence[match.start() :]))
    about = [unit for unit in units if keys(unit)] or units or offers
    return _distinct([unit for unit in about if _WORD.search(unit)])


def _asks(sentence: str) -> bool:
    asks = "?" in sentence or _REQUEST.search(sentence)
    return bool(asks) and not (is_courtesy(sentence) or closes(sentence))


def _core(sentence: str) -> str:
    """A question without the clause that says what it is for, before it or behind it."""
    request = _REQUEST.search(sentence)
    core = sentence[request.start() :] if request else _TO_DO.sub("", sentence)
    shorter = _SO_THAT.sub("", core)
    return (shorter if keys(shorter) else core).strip()


def _distinct(units: list[str]) -> tuple[str, ...]:
    """Without questions that say no more than a later one ("I need the price. What is it?")."""
    kept: list[str] = []
    for unit in reversed(units):
        about = keys(unit)
        if not any(about <= keys(other) for other in kept):
            kept = [other for other in kept if not keys(other) <= about]
            kept.append(unit)
    return tuple(reversed(kept))


@lru_cache(maxsize=32768)
def keys(text: str) -> frozenset[str]:
    """What a question or a fact is about: names, "~relation" tags, stems of content words."""
    found = set()
    for match in _WORD.finditer(text, 0, LONGEST):
        word = match[0].lower().removesuffix("'s")
        if tag := _GROUP.get(word):
            found.add(tag)
        elif word not in _FLUFF and (kept := content_words(word)):
            found |= kept
    return frozenset(found)


@lru_cache(maxsize=32768)
def names(text: str) -> frozenset[str]:
    return frozenset(stem(span.text) for span in entities(text))


_CLAUSE = re.compile(r"[,;:.?!]\s+|\s+(?:and|but|while|if|then|because|so|which)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """One fact. focus: keys of the clause that holds its number. context: its other keys.
    units: what its numbers count, "$" for money.

    A corpus may word a fact as its whole sentence with the other numbers taken out ("some pens
    and 3 books"): what the fact is about is where the number stands.
    """

    focus: frozenset[str]
    context: frozenset[str]
    units: frozenset[str] = frozenset()


@lru_cache(maxsize=16384)
def _piece(fact: str) -> Piece:
    everything = keys(fact)
    focus = keys(" ".join(number_clauses(fact))) or everything
    units = frozenset(n.unit for n in numbers(fact) if n.kind != "ordinal" and n.unit)
    return Piece(focus, everything - focus, units)


def number_clauses(fact: str) -> list[str]:
    """The clauses of a fact that hold a number, in order; the whole fact where there is none."""
    found = [n.start for n in numbers(fact) if n.kind != "ordinal"]
    ends = [m.start() for m in _CLAUSE.finditer(fact)] + [len(fact)]
    starts = [0] + [m.end() for m in _CLAUSE.finditer(fact)]
    spans = [(a, b) for a, b in zip(starts, ends, strict=True) if any(a <= n < b for n in found)]
    return [fact[a:b] for a, b in spans] or [fact]


@dataclass(frozen=True, slots=True)
class Frame:
    """What of a problem a question can be about.

    weight: of a key, the less the more facts are about it. people: names that occur.
    """

    removed: tuple[Piece, ...]
    given: tuple[Piece, ...]
    goal: Piece
    weight: dict[str, float]
    people: frozenset[str]


@lru_cache(maxsize=4096)
def _frame(removed: tuple[Shard, ...], shards: tuple[Shard, ...], prompt_text: str) -> Frame:
    gone = {s.shard_id for s in removed}
    if shards:
        facts = [s.text for s in shards if not s.is_question and s.shard_id not in gone]
        goal = " ".join(s.text for s in shards if s.is_question)
    else:
        parts = [s.text for s in sentences(prompt_text)]
        facts = [p for p in parts if not questions(p)]
        goal = " ".join(p for p in parts if questions(p))
    out = tuple(_piece(s.text) for s in removed)
    there = tuple(_piece(f) for f in facts)
    task = Piece(keys(goal), frozenset())
    counts = Counter(k for piece in (*out, *there, task) for k in piece.focus)
    shown = frozenset(k for piece in (*out, *there) for k in piece.context)
    return Frame(
        removed=out,
        given=there,
        goal=task,
        weight={k: 1 / n for k, n in counts.items()} | dict.fromkeys(shown - counts.keys(), 0.5),
        people=names(" ".join([*(s.text for s in removed), *facts, goal])),
    )


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a reply's questions point. hits, repeats, echoes: how many of `count` do so."""

    count: int
    hits: int
    repeats: int
    echoes: int


def aim(prompt: Prompt, reply: str) -> Aim:
    """How many of a reply's questions ask for a removed fact, a given fact, the task itself."""
    return _aim(prompt.removed, prompt.shards, prompt.text, asked(reply))


@lru_cache(maxsize=16384)
def _aim(
    removed: tuple[Shard, ...], shards: tuple[Shard, ...], prompt_text: str, units: tuple[str, ...]
) -> Aim:
    frame = _frame(removed, shards, prompt_text)
    points = Counter(_points_at(unit, frame) for unit in units)
    return Aim(len(units), points["removed"], points["given"], points["goal"])


#: A question must share this much of what it and a fact are about (see `_likeness`).
_LIKE = 0.25
_VERY_LIKE = 0.5
#: A question that covers this many given facts in full asks for everything, so for nothing.
_SHOTGUN = 2


def _points_at(unit: str, frame: Frame) -> str:
    about = keys(unit)
    known = frozenset(k for k in about if k in frame.weight)
    if not known or _stranger(unit, frame) or 2 * len(known) < len(about):
        return "elsewhere"
    covered = {piece.focus for piece in frame.given if piece.focus <= known}
    unit_asked = _unit_asked(unit)
    removed = _closest(known, unit_asked, frame.removed, frame)
    given = _closest(known, unit_asked, frame.given, frame)
    goal = _likeness(known, frame.goal, frame, unasked=1.0)
    beyond = any(known & piece.focus - frame.goal.focus for piece in frame.removed)
    alike = removed >= _LIKE and removed > given and (removed > goal or beyond)
    if alike and len(covered) < _SHOTGUN:
        return "removed"
    if given >= _VERY_LIKE and given > removed and given > goal:
        return "given"
    return "goal" if goal >= _LIKE else "elsewhere"


def _stranger(unit: str, frame: Frame) -> bool:
    """Whether a question names somebody of whom the problem knows nothing.

    Words that a list merely writes in capitals ("Cost per Gift") are nobody's name.
    """
    people = {span.text for span in entities(unit) if " " not in span.text}
    return any(
        word.lower() not in _GROUP
        and word.lower() not in _FLUFF
        and stem(word) not in frame.weight
        and stem(word) not in frame.people
        for word in people
    )


#: What is left of a likeness when the question asks for days and the fact counts hours.
_OTHER_UNIT = 0.7


def _closest(about: frozenset[str], unit: str, pieces: Iterable[Piece], frame: Frame) -> float:
    return max(
        (
            _likeness(about, piece, frame)
            * (_OTHER_UNIT if unit and piece.units and unit not in piece.units else 1.0)
            for piece in pieces
        ),
        default=0.0,
    )


@lru_cache(maxsize=16384)
def _unit_asked(question: str) -> str:
    """What a question wants counted: "day", "$", or "" where it does not say."""
    for found in questions(question):
        return "$" if found.kind == "money" else found.asks
    return ""


#: What a key counts that a question shares with a fact's sentence, but not with its number.
_BY_THE_WAY = 0.2


def _likeness(about: frozenset[str], piece: Piece, frame: Frame, unasked: float = 0.5) -> float:
    """Weighted overlap in [0, 1]; 0 for two relations or two people with nothing in common.

    unasked: what a key counts that only the fact holds. A fact has circumstances ("on the way")
    that a question may leave out, but not its relation; the task itself is handed back only when
    most of it is named.
    """
    shared = about & piece.focus
    if not shared:
        return 0.0
    mine, theirs = _relations(about), _relations(piece.focus)
    if mine and theirs and not mine & theirs:
        return 0.0
    mine, theirs = about & frame.people, (piece.focus | piece.context) & frame.people
    if mine and theirs and not mine & theirs:
        return 0.0
    weight = frame.weight
    common = sum(weight[k] for k in shared)
    near = _BY_THE_WAY * sum(weight[k] for k in about & piece.context)
    beside = sum(weight[k] for k in about - piece.focus - piece.context)
    silent = sum(weight[k] * (1.0 if k[0] == "~" else unasked) for k in piece.focus - about)
    return (common + near) / (common + near + beside + silent)


def _relations(about: frozenset[str]) -> frozenset[str]:
    return frozenset(k for k in about if k[0] == "~")


def asked_for(reply: str, open_shards: Sequence[Shard], shards: Sequence[Shard]) -> int | None:
    """Which open shard a reply's questions ask for first, by index; None for none of them.

    open_shards: those not said yet. shards: all of the problem, among which the closest counts.
    """
    for unit in asked(reply):
        for i, shard in enumerate(open_shards):
            if _aim((shard,), tuple(shards), "", (unit,)).hits:
                return i
    return None
