"""How alike a question and a fact are: the sort of quantity first, then who, what and when.

A corpus may word a fact as its whole sentence with the other numbers taken out ("some pens and 3
books"), so what a fact is about is nearest to its number: the words of its phrase count most, then
those of its clause, of its sentence, of the rest. A word that another fact has at its own number
tells the two apart, and counts against this one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.questions import questions
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Shard
from icpo_lite.core.words import content_words
from icpo_lite.rewards.asked_quantity import Quantity, fit, wanted
from icpo_lite.rewards.subject_keys import DECISIVE, KIN, RELATIONS, SORT_TAGS, keys, names, of_each
from icpo_lite.rewards.told_quantity import told

#: What each agreement is worth and each difference costs, in units of a content word that no other
#: fact has. Chosen on questions written for 100 problems of GSM8K's training set; the shares that
#: are recognised move by less than two points when any of these is halved or doubled.
_SORT, _GOAL_SORT = 1.0, 0.7
_CLAUSE, _SENTENCE, _REST = 0.9, 0.5, 0.3
_NUMBER_BESIDE, _NUMBER_ELSEWHERE, _OWN_NUMBER = 0.7, 0.5, 1.5
_TAG, _SORT_TAG, _DECISIVE = 0.6, 0.5, 2.0
_CONTRASTED, _UNKNOWN, _UNASKED, _GOAL_UNASKED = 0.35, 0.3, 0.25, 0.5
_KIN_UNASKED, _NAME_UNASKED, _EACH, _COMPARED, _NOT_COMPARED = 0.6, 0.3, 0.6, 0.6, 0.15
_OTHER_RELATION, _NOTHING_SAID = 0.5, 0.3
#: Words on each side of a number and its noun that belong to its phrase.
_NEAR = 3

_CLAUSE_END = re.compile(
    r"(?:[,;:?!]|(?<!\bMrs)(?<!\b(?:Mr|Ms|Dr|St))\.)\s+"
    r"|\s+(?:and|but|while|if|then|because|so|which|before|after|until|when)\s+",
    re.IGNORECASE,
)
_BLANKS = re.compile(r"\s+")
_AT_A_PRICE = re.compile(r"\b(?:for|at|of) (?:only )?\$")


@dataclass(frozen=True, slots=True)
class Fact:
    """What one fact, or the problem's own question, is about.

    phrase: keys around its number, clause: of the clause that holds it, sentence: of that
    sentence, rest: of all else. others: of clauses about numbers that are there to read. tells:
    what its numbers are; own: their values; beside: other numbers that the prompt has in the same
    clause. each: see `of_each`.
    """

    phrase: frozenset[str]
    clause: frozenset[str]
    sentence: frozenset[str] = frozenset()
    rest: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    tells: Quantity = field(default_factory=Quantity)
    own: frozenset[Fraction] = frozenset()
    beside: frozenset[Fraction] = frozenset()
    each: bool | None = None
    is_goal: bool = False

    @property
    def everything(self) -> frozenset[str]:
        return self.clause | self.sentence | self.rest


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as facts are compared with it. narrow: keys of the noun phrase that it counts."""

    about: frozenset[str]
    quantity: Quantity
    narrow: frozenset[str]
    people: frozenset[str]
    numbers: frozenset[Fraction]
    each: bool | None


@dataclass(frozen=True, slots=True)
class Frame:
    """What of a problem a question can be about.

    stated: numbers that the prompt holds. weight: of a key, the less the more facts are about it.
    people: whom the problem names. nouns: stems of all its content words.
    """

    removed: tuple[Fact, ...]
    given: tuple[Fact, ...]
    goal: Fact
    stated: frozenset[Fraction]
    weight: dict[str, float]
    people: frozenset[str]
    nouns: frozenset[str]

    @property
    def facts(self) -> tuple[Fact, ...]:
        return (*self.removed, *self.given, self.goal)


# ------------------------------------------------------------------------------------- reading


def _values(text: str) -> frozenset[Fraction]:
    return frozenset(n.value for n in numbers(text) if n.kind != "ordinal")


def _clauses(
    fact: str, there: frozenset[Fraction] = frozenset()
) -> list[tuple[int, str, list[NumberMention]]]:
    """Start, text and numbers of each clause that holds a number.

    there: numbers that are still to read in the prompt; others come first where there are any.
    """
    every = [n for n in numbers(fact) if n.kind != "ordinal"]
    found = [n for n in every if n.value not in there] or every
    ends = [m.start() for m in _CLAUSE_END.finditer(fact)] + [len(fact)]
    starts = [0] + [m.end() for m in _CLAUSE_END.finditer(fact)]
    spans = (
        (a, fact[a:b], [n for n in found if a <= n.start < b])
        for a, b in zip(starts, ends, strict=True)
    )
    return [span for span in spans if span[2]]


def number_clauses(fact: str) -> list[str]:
    """The clauses of a fact that hold a number, in order; the whole fact where there is none."""
    return [text for _, text, _ in _clauses(fact)] or [fact]


@lru_cache(maxsize=16384)
def read_fact(fact: str, there: frozenset[Fraction] = frozenset()) -> Fact:
    """One fact with what its number is and what stands around it; `there` as in `_clauses`."""
    fact = _BLANKS.sub(" ", fact)
    spans = _clauses(fact, there)
    everything = keys(fact)
    if not spans:
        return Fact(everything, everything, tells=told(fact, fact, frozenset()), each=of_each(fact))
    clause_text = " ".join(text for _, text, _ in spans)
    clause = keys(clause_text) or everything
    phrase = frozenset[str]().union(*(_phrase(*span) for span in spans))
    tells = told(clause_text, fact, frozenset(n.value for _, _, found in spans for n in found))
    if "money" in tells.sorts and _AT_A_PRICE.search(clause_text):
        phrase, clause = phrase | {"~cost"}, clause | {"~cost"}
    around = (s for s in sentences(fact) if any(s.start <= at < s.end for at, _, _ in spans))
    sentence = frozenset[str]().union(*(keys(s.text) for s in around)) - clause
    return Fact(
        phrase & clause,
        clause,
        sentence,
        everything - clause - sentence,
        _others(fact, spans) - clause,
        tells,
        own=frozenset(n.value for _, _, found in spans for n in found),
        each=of_each(clause_text),
    )


def _others(fact: str, spans: list[tuple[int, str, list[NumberMention]]]) -> frozenset[str]:
    """Keys of the clauses of a fact whose numbers are none of those that it is read for.

    Behind "each wall needs one coat of primer and", "two coats of paint" are of a wall too.
    """
    mine = {start for start, _, _ in spans}
    shares = any(found[0].start == start for start, _, found in spans)
    others = ((start, text, found) for start, text, found in _clauses(fact) if start not in mine)
    return keys(" ".join(t[found[0].start - at if shares else 0 :] for at, t, found in others))


def _phrase(start: int, clause: str, found: list[NumberMention]) -> frozenset[str]:
    """Keys of a clause's numbers with their nouns and a few words on each side."""
    near: set[str] = set()
    for number in found:
        first, last = number.start - start, max(number.unit_end, number.end) - start
        before, after = clause[:first].split()[-_NEAR:], clause[last:].split()[:_NEAR]
        near |= keys(" ".join([*before, clause[first:last], *after]))
    return frozenset(near)


_ASKS = re.compile(r"\b(?:how|what|which|calculate|find|determine)\b", re.IGNORECASE)
_ONLY_THEN = re.compile(r"\b(?:in order to|if|when|so that|assuming|given)\b|,", re.IGNORECASE)


_AFTER = re.compile(r"\b(?:after|before)\b.*", re.IGNORECASE | re.DOTALL)


def _read_goal(goal: str) -> Fact:
    """The problem's own question: its phrase is the question alone, without its conditions, and
    the event that it comes after."""
    heads = list(_ASKS.finditer(goal))
    main = _ONLY_THEN.split(goal[heads[-1].start() :])[0] if heads else goal
    if heads and (event := _AFTER.search(goal[: heads[-1].start()])):
        main = f"{event[0]} {main}"
    about = keys(goal)
    return Fact(
        keys(main) or about,
        about,
        tells=wanted(goal),
        own=_values(goal),
        each=of_each(goal),
        is_goal=True,
    )


def _beside(fact: Fact, prompt_text: str) -> Fact:
    """The fact with the numbers that stand where the prompt speaks of it without its own."""
    best, values = 0, frozenset[Fraction]()
    for clause in _CLAUSE_END.split(_BLANKS.sub(" ", prompt_text)):
        if (shared := len(keys(clause) & fact.phrase)) > best:
            best, values = shared, _values(clause)
    return replace(fact, beside=values) if 2 * best >= len(fact.phrase) else fact


@lru_cache(maxsize=4096)
def read_frame(removed: tuple[Shard, ...], shards: tuple[Shard, ...], prompt_text: str) -> Frame:
    """The facts of a problem; where it has no shards, the sentences of its prompt."""
    gone = {s.shard_id for s in removed}
    if shards:
        given = [s.text for s in shards if not s.is_question and s.shard_id not in gone]
        goal = " ".join(s.text for s in shards if s.is_question)
    else:
        parts = [s.text for s in sentences(prompt_text)]
        given = [p for p in parts if not questions(p)]
        goal = " ".join(p for p in parts if questions(p))
    stated = _values(prompt_text)
    out = tuple(_beside(read_fact(s.text, stated), prompt_text) for s in removed)
    there = tuple(read_fact(text) for text in given)
    task = _read_goal(goal)
    counts = Counter(k for fact in (*out, *there, task) for k in fact.clause)
    shown = frozenset(k for fact in (*out, *there) for k in fact.everything)
    everything = " ".join([*(s.text for s in removed), *given, goal])
    return Frame(
        out,
        there,
        task,
        stated=stated,
        weight={k: 1 / n for k, n in counts.items()} | dict.fromkeys(shown - counts.keys(), 0.5),
        people=names(everything),
        nouns=content_words(everything),
    )


_BEFORE = re.compile(r"\b(?:before|prior to)\b", re.IGNORECASE)


def _about(question: str) -> frozenset[str]:
    """Keys of a question; what it asks for "before …" is how things were at the start."""
    main = _BEFORE.split(question, maxsplit=1)[0]
    if main == question or not (about := keys(main)):
        return keys(question)
    return about | {"~start"}


def read_question(question: str, frame: Frame) -> Asked:
    """A question with what it wants, of whom, and the numbers that it takes as known."""
    quantity = wanted(question)
    return Asked(
        about=_about(question),
        quantity=quantity,
        narrow=keys(quantity.phrase),
        people=names(question) & frame.people,
        numbers=_values(question),
        each=of_each(question),
    )


# ----------------------------------------------------------------------------------- comparing


def closest(asked: Asked, facts: Iterable[Fact], frame: Frame) -> float:
    """The likeness to the fact that is most alike; 0 where there is none."""
    return max((_likeness(asked, fact, frame) for fact in facts), default=0.0)


def _likeness(asked: Asked, fact: Fact, frame: Frame) -> float:
    """In [0, 1): what agrees, against that and what differs; 0 for two sorts or two people."""
    sort = _goal_fit(asked, fact) if fact.is_goal else fit(asked.quantity, fact.tells, frame.nouns)
    people = fact.clause & frame.people or fact.everything & frame.people
    if sort < 0 or (asked.people and people and not asked.people & people):
        return 0.0
    contrast = _contrast(fact, frame)
    agrees = (_GOAL_SORT if fact.is_goal else _SORT) * sort + _shared(asked, fact, contrast, frame)
    if agrees <= 0:
        return 0.0
    differs = _foreign(asked, fact, contrast, frame) + _unasked(asked, fact, frame)
    return agrees / (agrees + differs + _NOTHING_SAID)


def _goal_fit(asked: Asked, goal: Fact) -> float:
    mine, its = asked.quantity, goal.tells
    if not mine.sorts or not its.sorts:
        return 0.0
    if not mine.sorts & its.sorts or (mine.nouns and its.nouns and not mine.nouns & its.nouns):
        return -1.0
    return 1.0


def _contrast(fact: Fact, frame: Frame) -> frozenset[str]:
    """Keys that other facts have at their numbers and this one does not have in its clause."""
    others = (other.phrase for other in frame.facts if other is not fact)
    return frozenset[str]().union(*others) - fact.clause


def _weigh(found: Iterable[str], frame: Frame) -> float:
    return sum(_weight(key, frame) for key in found)


def _weight(key: str, frame: Frame) -> float:
    if key in DECISIVE:
        return _DECISIVE
    if key in SORT_TAGS:
        return min(_SORT_TAG, frame.weight.get(key, 1.0))
    return max(frame.weight.get(key, 0.0), _TAG if key[0] == "~" else 0.0)


def _reach(fact: Fact) -> frozenset[str]:
    """Keys of a fact's clause; what somebody has is what they start with."""
    starts = "~own" in fact.clause and "~left" not in fact.clause
    starts = starts and not fact.is_goal
    return fact.clause | {"~start"} if starts else fact.clause


def _shared(asked: Asked, fact: Fact, contrast: frozenset[str], frame: Frame) -> float:
    clause, about = _reach(fact), asked.about
    farther = about - clause - contrast - fact.others
    worth = _weigh(about & fact.phrase, frame)
    worth += _CLAUSE * _weigh(about & clause - fact.phrase, frame)
    worth += _SENTENCE * _weigh(farther & fact.sentence, frame)
    worth += _REST * _weigh(farther & fact.rest - fact.sentence, frame)
    beside = fact.own if fact.is_goal else fact.beside
    return worth + (_NUMBER_BESIDE if asked.numbers & beside else 0.0)


def _foreign(asked: Asked, fact: Fact, contrast: frozenset[str], frame: Frame) -> float:
    """What the question says and the fact does not; a fact's own number is not asked for."""
    farther = (fact.sentence | fact.rest) - fact.others
    strange = asked.about - _reach(fact) - (farther - contrast) - SORT_TAGS
    known = [k for k in strange if k in frame.weight or k[0] == "~"]
    loosely = farther - asked.narrow
    cost = sum(_weight(k, frame) * (_CONTRASTED if k in loosely else 1.0) for k in known)
    cost += _UNKNOWN * (len(strange) - len(known))
    if fact.is_goal and "~start" in strange:  # what comes out is not what was there at first
        cost += _DECISIVE
    if asked.numbers & fact.own and not fact.is_goal:
        return cost + _OWN_NUMBER
    elsewhere = asked.numbers & frame.stated - fact.beside - fact.own
    return cost + (_NUMBER_ELSEWHERE if elsewhere else 0.0)


def _unasked(asked: Asked, fact: Fact, frame: Frame) -> float:
    """What the fact says and the question does not."""
    if fact.is_goal:
        narrow = keys(fact.tells.phrase)
        cost = _weigh(narrow - asked.about, frame)
        cost += _GOAL_UNASKED * _weigh(fact.phrase - narrow - asked.about, frame)
    else:
        said = fact.phrase | (fact.clause & frame.people)
        cost = _UNASKED * _weigh(said - asked.about, frame)
    if asked.people:
        cost += _KIN_UNASKED * len((fact.clause & KIN) - asked.about)
        cost += _NAME_UNASKED * len((fact.phrase & frame.people) - asked.about)
    hers, its = asked.about & RELATIONS, _reach(fact) & RELATIONS
    at_first = "~start" in asked.about and its <= _SUPPLIES
    if hers and its and not hers & its and not at_first:
        cost += _OTHER_RELATION
    if asked.quantity.compared != fact.tells.compared:
        cost += _COMPARED if asked.quantity.compared else _NOT_COMPARED
    if asked.each is not None and asked.each != fact.each:
        cost += _EACH if fact.each is not None else 0.6 * _EACH
    return cost


def beyond(asked: Asked, frame: Frame) -> bool:
    """Whether a question says something of a removed fact that the task itself does not say."""
    hers = frozenset[str]().union(*(fact.phrase for fact in frame.removed))
    return bool(asked.about & hers - frame.goal.clause - SORT_TAGS)


#: Tags that a question may leave out and still name a fact in full.
_UNSAID = frozenset({"~own", "~all"})


#: Events that put there what is there at the start.
_SUPPLIES = frozenset({"~make", "~buy", "~grow", "~find", "~earn", "~plant", "~own"})


def covers(asked: Asked, facts: Sequence[Fact]) -> int:
    """How many facts a question names in full."""
    named = {fact.clause - _UNSAID for fact in facts}
    return sum(
        len(all_) > 1 and any(k[0] != "~" for k in all_) and all_ <= asked.about for all_ in named
    )
