"""The certificate of an underspecified prompt: both proofs of METHOD.md section 3, as evidence.

*Out of reach*: the removed number is needed by the reference solution (`data/equations.py`), and
nothing that is left states it, repeats it, or lets it be worked out. *Visibly incomplete*: the cut
leaves a gap that a reader sees - a thing whose number, price, size or rate is gone - or, where a
whole clause goes, a rate that the question asks for and nothing else gives. What has no evidence of
both kinds gets no certificate: a smaller problem that is complete must not be rewarded for asking.

The tables: written by hand and changed while q* of GSM8K's training half were read (seven draws of
200; the last held 1 faulty one), so figures on that half are of data that the author has seen.
tests/claims/tables.json has what each is worth alone: 2 points of 153 more would be certified
without `_CONVERSIONS`, whose numbers everybody supplies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.questions import Question, questions
from icpo_lite.core.sentences import entities
from icpo_lite.core.types import Certificate, Problem, Shard
from icpo_lite.core.words import content_words, stem
from icpo_lite.data.bare_answers import is_bare, needs_by_search
from icpo_lite.data.sharding import FactShard, Sharding
from icpo_lite.data.solution_equations import Need, needs_of_arguments, solution_graph
from icpo_lite.data.text_edits import Cut, CutKind, apply
from icpo_lite.data.unit_words import counts_people, is_common_knowledge

#: What each kind of cut leaves behind for a reader to miss.
GAPS: Mapping[CutKind, str] = {
    "count": "{slot!r} stay in the text without their number",
    "measure": "{slot!r} stays in the text without its quantity",
    "modifier": "{slot!r} stays in the text without its size",
    "comparison": "the comparison {slot!r} stays without its measure",
    "price": "{slot!r} is paid for, but no price is given",
    "speed": "the way stays in the text without its speed",
    "percent": "{slot!r} stays in the text without its rate",
    "share": "a share stays in the text without its size",
    "amount": "{slot!r} stands where the amount was",
    "clause": "{slot!r} is still counted, and nothing says what the question asks of each",
    "value": "{slot}, and the request no longer gives it",
    "description": "a function {slot!r} is asked for, and nothing says what it does",
    "term": "{slot!r} stands in the request and nothing says what it means",
    "gap": "{slot!r} stands in the request and nothing says which",
}
#: Cuts that put vague words in the value's place; all others only delete.
REWORDING: frozenset[CutKind] = frozenset({"share", "amount", "gap"})


@dataclass(frozen=True, slots=True)
class Removal:
    """A certified way to make a `q*`: remove `fact` by `cut`, which leaves `text`.

    value: the number that goes; None where the fact has none.
    along: further shards that the cut takes with it, since they would give the fact away.
    """

    fact: FactShard
    cut: Cut
    text: str
    certificate: Certificate
    additive: bool
    along: tuple[Shard, ...] = ()
    value: Fraction | None = None

    @property
    def shard_id(self) -> int:
        return self.fact.shard.shard_id

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All that goes."""
        return (self.fact.shard, *self.along)

    @property
    def rewords(self) -> bool:
        return self.cut.kind in REWORDING


def needs(problem: Problem, mentions: Sequence[NumberMention]) -> Mapping[int, Need] | None:
    """Which numbers of the problem its answer needs; None where nothing shows it.

    From the equations of the solution, where there is none from those that lead to the answer, and
    for function calls from their argument values.
    """
    if problem.task == "actions":
        return needs_of_arguments(problem.answer, mentions)
    if is_bare(problem.solution):
        return needs_by_search(problem.question, problem.answer, mentions)
    graph = solution_graph(problem.solution, problem.answer, mentions)
    return None if graph is None else graph.needs()


def certified_removals(
    text: str, sharding: Sharding, needed: Mapping[int, Need]
) -> tuple[list[Removal], list[str]]:
    """All certified removals of single facts, and why the other facts got none."""
    found, reasons = [], []
    for fact in sharding.facts:
        for cut in fact.cuts:
            result = certify(text, sharding, needed, fact, cut)
            if isinstance(result, Removal):
                found.append(result)
                break
            reasons.append(result)
        else:
            if not fact.cuts:
                reasons.append("no fluent cut")
    return found, reasons


def candidates(text: str, sharding: Sharding) -> list[Removal]:
    """Removals without any proof, for problems that only an experiment can certify."""
    return [
        Removal(
            fact,
            fact.cuts[0],
            apply(text, fact.cuts[:1]),
            Certificate("none"),
            additive=False,
            value=sharding.mentions[fact.mentions[0]].value,
        )
        for fact in sharding.facts
        if len(fact.mentions) == 1 and fact.cuts and fact.cuts[0].kind != "clause"
    ]


def certify(
    text: str, sharding: Sharding, needed: Mapping[int, Need], fact: FactShard, cut: Cut
) -> Removal | str:
    """The certificate of one removal, or the reason why it gets none."""
    gone = numbers_gone(sharding, fact, cut)
    if len(gone) != 1:
        return "not one number"
    (index,) = gone
    mention = sharding.mentions[index]
    need = needed.get(index)
    if need is None:
        return "not needed by the solution"
    left = apply(text, [cut])
    others = [m for i, m in enumerate(sharding.mentions) if i != index]
    if confusable(mention, others) or any(n.value == mention.value for n in numbers(left)):
        return "given away by another number"
    names = [e.text for e in entities(left)] if counts_people(mention) else []
    if implied(mention, left, names):
        return "implied by the words left"
    if cut.kind == "clause":
        counted = _counted_without(text, left, sharding, needed, index)
        if not counted:
            return "not visibly incomplete"
        cut = replace(cut, slot=counted)
    certificate = Certificate(
        need.level,
        f"{mention.surface!r} enters {need.equation} and nothing left gives it",
        GAPS[cut.kind].format(slot=cut.slot),
    )
    return Removal(fact, cut, left, certificate, need.additive, value=mention.value)


def numbers_gone(sharding: Sharding, fact: FactShard, cut: Cut) -> list[int]:
    """Which numbers of a fact a cut takes out of the text, by index."""
    starts = {i: sharding.mentions[i].start for i in fact.mentions}
    return [i for i, at in starts.items() if any(e.start <= at < e.end for e in cut.edits)]


# ------------------------------------------------------------------------ first proof: out of reach


def confusable(mention: NumberMention, others: Sequence[NumberMention]) -> str:
    """Why a number could be read off the rest of the problem; empty where it could not.

    Equal or reciprocal numbers, the same number as a percentage, and a sum, difference, product
    or quotient of two others that would give it back.
    """
    value = mention.value
    rest = [o.value for o in others]
    for other in others:
        same = other.value in (value, value * 100, value / 100)
        if same or (value and other.value == 1 / value):
            return f"{other.surface!r} gives {mention.surface!r} away"
    if value < 1:
        parts = [r for r in rest if r < 1]
        if any(value + a == 1 for a in parts) or value + sum(parts) == 1:
            return f"{mention.surface!r} is what the other shares leave"
    for i, a in enumerate(rest):
        for b in rest[i + 1 :]:
            made = {a + b, abs(a - b)}
            if value > 10:
                made |= {a * b} | ({a / b} if b else set()) | ({b / a} if a else set())
            # 6.5 ounces and 1.5 ounces are a glass of 8 by no chance
            broken = min(a, b, value) > 1 and min(a.denominator, b.denominator) > 1
            if value in made and (value > 10 or broken or _same_unit(mention, others)):
                return f"{mention.surface!r} follows from two other numbers"
    return ""


def _same_unit(mention: NumberMention, others: Sequence[NumberMention]) -> bool:
    return sum(o.unit == mention.unit for o in others) >= 2


#: Numbers that everybody supplies unasked, and the words that call for them.
_CONVERSIONS: Mapping[Fraction, str] = {
    Fraction(n): words
    for n, words in (
        (2, r"both|couple|twins|pair|round[- ]trip|each way|husband|wife|parents"),
        (4, r"quarters?|seasons|weeks?|months?"),
        (5, r"weekdays?|workdays?|week|nickels?|vowels?"),
        (7, r"weeks?|daily|every day"),
        (10, r"dimes?|decades?"),
        (12, r"years?|months?|annual\w*|monthly|dozens?|foot|feet|inch(?:es)?"),
        (21, r"consonants?"),
        (24, r"days?|hours?"),
        (25, r"quarters?"),
        (30, r"months?|days?|June|April|September|November"),
        (31, r"months?|days?"),
        (52, r"years?|weeks?|decks?"),
        (60, r"hours?|minutes?|seconds?"),
        (100, r"cents?|meters?|centimeters?|centur\w+"),
        (365, r"years?|days?"),
        (1000, r"kilo\w*|kg|km|liters?|millili\w+|grams?|meters?|ml"),
        (16, r"pounds?|ounces?"),
        (3, r"yards?|feet|thirds?|trio|triplets"),
        (8, r"gallons?|pints?"),
        (26, r"alphabet"),
        (28, r"February|weeks?"),
        (29, r"February"),
    )
}


#: "5 of which have a dog and 4 of whom a cat": parts of what goes, but for a last one.
_OF_THEM = re.compile(r" of (?:which|whom|them|those|these)\b")


def implied(mention: NumberMention, left: str, names: Sequence[str]) -> str:
    """Why the text that is left gives a number away without stating it; empty where it does not.

    Calendar and measure conversions, people who are named one by one, things numbered "the first,
    the second".
    """
    if any(n.kind == "ordinal" and n.value - mention.value in (0, 1) for n in numbers(left)):
        return f"an ordinal tells {mention.surface!r}"
    words = _CONVERSIONS.get(mention.value)
    if words and re.search(rf"\b(?:{words})\b", left, re.IGNORECASE):
        return f"{mention.surface!r} is a usual conversion"
    parts = [n.value for n in numbers(left) if _OF_THEM.match(left, n.end)]
    if len(parts) > 1 and mention.value - sum(parts) in (0, 1):
        return f"its parts add up to {mention.surface!r}"
    named = len(set(names))
    if named >= 2 and mention.value <= min(named + 1, 10):
        return f"{named} names may stand for {mention.surface!r}"
    if mention.kind == "cardinal" and 2 <= mention.value <= 6:
        if re.search(
            r"\b(?:the other|one of|another|the last|final|former"
            r"|latter)\b",
            left,
            re.I,
        ):
            return "the things are told apart one by one"
        if any(n.kind == "ordinal" and n.value <= mention.value for n in numbers(left)):
            return "the things are numbered one by one"
    return ""


# ------------------------------------------------------------- second proof: visibly incomplete

_MORE = re.compile(
    r"\b(?:more|less|fewer|extra|additional|another|discount|off|tax|tip|fee)\b", re.I
)
_POINTER = re.compile(r"(?:he|she|it|they|his|her|its|their|this|that|these|those)\b", re.I)
_RATE = re.compile(r"\b(?:each|every|per|costs?|charges?)\b", re.I)
_RATE_OF = re.compile(
    r"(?:(?:if|and|while|but)\s+)?(?:the (?:price|cost) (?:of|for) )?(?:each|every|one"
    r"|an?)\s+(?P<each>[a-z -]+?)\s+"
    r"(?:costs?|is|has|have|contains?|holds?|weighs?|sells|takes?|can|requires?|needs?|uses?"
    r"|was|will|earns?"
    r"|produces?|makes?|gives?)\b"
    r"|(?:(?:if|and|while|but)\s+)?(?P<all>[a-z -]+?)\s+(?:cost|are|sell|have|weigh|contain"
    r"|hold|take|need)\b"
    r".*\b(?:each|apiece|per)\b",
    re.IGNORECASE,
)


def _counted_without(
    text: str, left: str, sharding: Sharding, needed: Mapping[int, Need], index: int
) -> str:
    """For a clause that gives a rate: the things it is the rate of, when they are still counted.

    The question must ask for what the rate gives (money for a price, pages for pages a book), so
    that the things counted cannot be turned into an answer. Empty where that is not so.
    """
    mention = sharding.mentions[index]
    part = next(_clause_of(text, f) for f in sharding.facts if index in f.mentions)
    asked = questions(left)
    if needed[index].additive or not asked or _MORE.search(part) or is_common_knowledge(mention):
        return ""
    if {e.text for e in entities(part)} - {e.text for e in entities(left)}:
        return ""
    after = text[text.find(part) + len(part) :].lstrip(" ,")
    if _POINTER.match(after) or not _asks_for(asked[-1], mention):
        return ""
    rest = [m for i, m in enumerate(sharding.mentions) if i != index and i in needed]
    only = not any(m.unit == mention.unit for m in sharding.mentions if m is not mention)
    if only and _RATE.search(part):
        told = content_words(part)
    elif rate := _RATE_OF.match(part):
        told = frozenset(stem(w) for w in (rate["each"] or rate["all"]).split())
    else:
        return ""
    counted = (m for m in rest if m.unit and m.unit in told and m.unit != mention.unit)
    return next((text[m.start : m.unit_end] for m in counted), "")


def _clause_of(text: str, fact: FactShard) -> str:
    edit = next(e for c in fact.cuts if c.kind == "clause" for e in c.edits)
    return text[edit.start : edit.end].strip(" ,")


def _asks_for(question: Question, mention: NumberMention) -> bool:
    """Whether the question's answer is in the unit of the number."""
    if question.kind == "money":
        return mention.kind == "money"
    return bool(question.asks) and mention.unit == question.asks
