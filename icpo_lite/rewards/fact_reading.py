"""What the facts of a problem and a question about it are about, ready to be compared.

A corpus may word a fact as its whole sentence with the other numbers taken out ("some pens and 3
books"), so a fact is read around its number: the words of its phrase, of its clause, of its
sentence, the rest. A statement beside a removed one that is still there to read is a fact of its
own, among the given ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.questions import questions
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Shard
from icpo_lite.core.words import content_words, stem
from icpo_lite.rewards.asked_quantity import Quantity, wanted
from icpo_lite.rewards.idioms import plain
from icpo_lite.rewards.quantity_words import UNITS
from icpo_lite.rewards.rewording import vocabulary
from icpo_lite.rewards.subject_keys import RELATIONS, keys, names, of_each
from icpo_lite.rewards.told_quantity import told

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
    clause. each: see `of_each`. places: its places in a row ("second"), see `places_of`. text: the
    fact as written, said: its clauses that hold its
    numbers, of the goal all of it; a part has no text, the goal neither.
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
    places: frozenset[str] = frozenset()
    text: str = ""
    said: str = ""

    @property
    def everything(self) -> frozenset[str]:
        return self.clause | self.sentence | self.rest


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as facts are compared with it.

    narrow: keys of the noun phrase that it counts. per: stems of the times that it asks a rate for.
    """

    about: frozenset[str]
    quantity: Quantity
    narrow: frozenset[str]
    people: frozenset[str]
    numbers: frozenset[Fraction]
    each: bool | None
    places: frozenset[str] = frozenset()
    per: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Frame:
    """What of a problem a question can be about.

    parts: single statements that stand beside another in a fact and are there to read.
    stated: numbers that the prompt holds. weight: of a key, the less the more facts are about it.
    people: whom the problem names. nouns: stems of all its content words. words: see
    `rewording.vocabulary`.
    """

    removed: tuple[Fact, ...]
    given: tuple[Fact, ...]
    goal: Fact
    stated: frozenset[Fraction]
    weight: dict[str, float]
    people: frozenset[str]
    nouns: frozenset[str]
    parts: tuple[Fact, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def readable(self) -> tuple[Fact, ...]:
        return (*self.given, *self.parts)

    @property
    def facts(self) -> tuple[Fact, ...]:
        return (*self.removed, *self.readable, self.goal)


#: Before the "one" of "the cheap one", and the "two" of "between the two": no numbers.
_NO_ONE = re.compile(r"\b(?:the|this|that|each|which|every|another)(?: [a-z]+)? $", re.IGNORECASE)
_NO_MANY = re.compile(r"\b(?:the|these|those|all) $", re.IGNORECASE)


def _mentions(text: str) -> list[NumberMention]:
    """The numbers of a text; neither its places in a row nor the pronoun "one"."""
    return [n for n in numbers(text) if n.kind != "ordinal" and not _is_pronoun(n, text)]


def _is_pronoun(number: NumberMention, text: str) -> bool:
    if number.kind != "cardinal" or not number.surface.isalpha() or number.unit in UNITS:
        return False
    before = text[max(0, number.start - 30) : number.start]
    if number.surface.lower() == "one":
        return bool(_NO_ONE.search(before)) or text.startswith("-time", number.end)
    return not number.unit and bool(_NO_MANY.search(before))


@lru_cache(maxsize=16384)
def _values(text: str) -> frozenset[Fraction]:
    return frozenset(n.value for n in _mentions(text))


def _clauses(
    fact: str, there: frozenset[Fraction] = frozenset()
) -> list[tuple[int, str, list[NumberMention]]]:
    """Start, text and numbers of each clause that holds a number.

    there: numbers that are still to read in the prompt; others come first where there are any.
    """
    every = _mentions(fact)
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
        tells = told(fact, fact, frozenset())
        return Fact(everything, everything, tells=tells, each=of_each(fact), text=fact, said=fact)
    clause_text = " ".join(text for _, text, _ in spans)
    clause = keys(clause_text) or everything
    phrase = frozenset[str]().union(*(_phrase(*span) for span in spans))
    tells = told(clause_text, fact, frozenset(n.value for _, _, found in spans for n in found))
    if "money" in tells.sorts and _AT_A_PRICE.search(clause_text):
        phrase, clause = phrase | {"~cost"}, clause | {"~cost"}
    around = (s for s in sentences(fact) if any(s.start <= at < s.end for at, _, _ in spans))
    near = " ".join(s.text for s in around)
    clause |= _elided(clause, near)
    sentence = keys(near) - clause
    return Fact(
        phrase & clause,
        clause,
        sentence,
        everything - clause - sentence,
        _others(fact, spans) - clause,
        tells,
        own=frozenset(n.value for _, _, found in spans for n in found),
        each=of_each(clause_text),
        places=places_of(clause_text),
        text=fact,
        said=clause_text,
    )


_PLACE = re.compile(
    r"\b(first|1st|second|2nd|third|3rd|fourth|4th|fifth|5th|sixth|seventh|eighth|ninth|tenth)\b"
    r"(?! (?:graders?|floor)\b)",
    re.IGNORECASE,
)
_SAME_PLACE = {"1st": "first", "2nd": "second", "3rd": "third", "4th": "fourth", "5th": "fifth"}


def places_of(text: str) -> frozenset[str]:
    """The places in a row that a text names: of "the second package", "second"."""
    found = (m[1].lower() for m in _PLACE.finditer(plain(text)))
    return frozenset(_SAME_PLACE.get(word, word) for word in found)


def _elided(clause: frozenset[str], sentence: str) -> frozenset[str]:
    """Who does what, where a clause leaves it to its sentence: "Dan bought 6 pens and 3 books"."""
    around, people = keys(sentence), names(sentence)
    verbs = frozenset[str]() if clause & _DEEDS else around & _DEEDS
    return verbs | (frozenset() if clause & people else around & people)


@lru_cache(maxsize=16384)
def _parts(fact: str, there: frozenset[Fraction]) -> tuple[Fact, ...]:
    """Of a fact of several statements: each whose numbers are all in `there`, as a fact."""
    fact = _BLANKS.sub(" ", fact)
    spans = _clauses(fact)
    told_of = [_part(fact, span) for span in spans if all(n.value in there for n in span[2])]
    return tuple(told_of) if len(spans) > 1 else ()


def _part(fact: str, span: tuple[int, str, list[NumberMention]]) -> Fact:
    clause, values = keys(span[1]), frozenset(n.value for n in span[2])
    around = next((s.text for s in sentences(fact) if s.start <= span[0] < s.end), fact)
    clause |= _elided(clause, around)
    return Fact(
        _phrase(*span) & clause,
        clause,
        keys(around) - clause,
        tells=told(span[1], span[1], values),
        own=values,
        each=of_each(span[1]),
        places=places_of(span[1]),
        said=span[1],
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


_DEEDS = RELATIONS | {"~capacity"}
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
        said=goal,
    )


def _beside(fact: Fact, prompt_text: str) -> Fact:
    """The fact with the numbers that stand where the prompt speaks of it without its own."""
    best, values = 0, frozenset[Fraction]()
    for clause in _CLAUSE_END.split(_BLANKS.sub(" ", prompt_text)):
        if (shared := len(keys(clause) & fact.phrase)) > best:
            best, values = shared, _values(clause)
    return replace(fact, beside=values) if 2 * best >= len(fact.phrase) else fact


def _of(fact: str, stated: frozenset[Fraction]) -> frozenset[Fraction]:
    """Which of a fact's own numbers are stated: others change nothing, so it is read once."""
    return stated & _values(_BLANKS.sub(" ", fact))


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
    out = tuple(_beside(read_fact(s.text, _of(s.text, stated)), prompt_text) for s in removed)
    there = tuple(read_fact(text) for text in given)
    task = _read_goal(goal)
    beside = [_parts(s.text, _of(s.text, stated)) for s in removed]
    beside += [_parts(text, _values(text)) for text in given]
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
        parts=tuple(part for told_of in beside for part in told_of),
        words=vocabulary(everything),
    )


#: "…, without tax and tip?", "…, not counting Ann's?"
_BESIDES = re.compile(
    r",? (?:without|excluding|not (?:counting|including)|leaving (?:out|aside)|apart from) .*",
    re.IGNORECASE | re.DOTALL,
)
_BEFORE = re.compile(r"\b(?:before|prior to)\b", re.IGNORECASE)
_AFTER_EVENT = re.compile(r"\bafter (?!all\b)", re.IGNORECASE)
_AFTER_HOW = re.compile(r"^\W*after (?=(?:how|what)\b)", re.IGNORECASE)


def _about(question: str) -> frozenset[str]:
    """Keys of a question, less the event that says when.

    What it asks for "before …" is how things were at the start, "after …" what was left.
    """
    question = _BESIDES.sub("", _AFTER_HOW.sub("in ", question))
    for event, state in ((_BEFORE, "~start"), (_AFTER_EVENT, "~left")):
        main = event.split(question, maxsplit=1)[0]
        if main != question and (about := keys(main)):
            return about | {state}
    return keys(question)


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
        places=places_of(question),
        per=frozenset(
            stem(_DAILY.get(m[2], m[1] or m[2]).lower()) for m in _PER.finditer(question)
        ),
    )


_DAILY = {"dai": "day", "Dai": "day"}
#: The time that a rate is asked for: "per hour", "a week", "each day".
_PER = re.compile(
    r"\b(?:per|an?|each|every) (second|minute|hour|day|night|evening|morning|week|month|year)\b"
    r"(?! (?:of|from|for)\b)|\b(hour|dai|night|week|month|year)ly\b",
    re.IGNORECASE,
)
