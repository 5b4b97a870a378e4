"""Problems → shards: the question, and the facts it needs, one fact each.

Three methods and one judge. `rules` works offline: sentences, then clauses, then a sentence for
each number where a clause falls apart into such (`data/facts.py`); every shard is the problem's own
words. `self` and `endpoint` ask a model (`data/model_shards.py`). All three pass `check_shards`
(`data/shard_checks.py`): nothing lost, nothing vague, at least three shards, each readable in any
order after the first.

The tables: written by hand and changed while q* of GSM8K's training half were read (seven draws of
200; the last held 1 faulty one), so figures on that half are of data that the author has seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.questions import is_request
from icpo_lite.core.sentences import Span, sentences
from icpo_lite.core.types import Shard
from icpo_lite.data.clause_words import counted, with_antecedent
from icpo_lite.data.deletions import number_cut
from icpo_lite.data.facts import split_clause
from icpo_lite.data.labels import is_label
from icpo_lite.data.people import referent, with_name
from icpo_lite.data.shard_checks import RejectedError, check_shards
from icpo_lite.data.text_edits import Cut, Edit
from icpo_lite.data.things import with_thing

#: A longer text, or one with more numbers, is no word problem that turns could hold.
MAX_CHARACTERS = 10_000
MAX_NUMBERS = 60


@dataclass(frozen=True, slots=True)
class Part:
    """A clause `text[start:end]`; cut: how the clause as a whole leaves the text readable."""

    start: int
    end: int
    is_question: bool = False
    cut: Cut | None = None


@dataclass(frozen=True, slots=True)
class FactShard:
    """A shard with what removing it takes: indices of its numbers, and the cuts that do it.

    A cut takes out one of the numbers, or the whole clause; the shard tells all of them again.
    """

    shard: Shard
    mentions: tuple[int, ...]
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class Sharding:
    """A problem's shards, and the numbers of its text to which `FactShard.mentions` points."""

    shards: tuple[Shard, ...]
    facts: tuple[FactShard, ...]
    mentions: tuple[NumberMention, ...]
    question: str


# ------------------------------------------------------------------------------------------ rules


def shard_by_rules(text: str) -> Sharding:
    """Shards of a problem text, the question first. Raises RejectedError with a reason."""
    if len(text) > MAX_CHARACTERS:
        raise RejectedError("too long", f"{len(text)} characters")
    mentions = numbers(text)
    if len(mentions) > MAX_NUMBERS:
        raise RejectedError("too many numbers", str(len(mentions)))
    parts = list(clauses(text))
    questions = [p for p in parts if p.is_question]
    if not questions:
        raise RejectedError("no question")
    if len(questions) > 1:
        raise RejectedError("several questions")
    question = sentence_of(text[questions[0].start : questions[0].end], ask=True)
    facts: list[FactShard] = []
    for block in _blocks(text, [p for p in parts if not p.is_question]):
        facts.extend(_facts_of(text, block, mentions, first_id=len(facts) + 1))
    shards = (Shard(0, question, is_question=True), *(f.shard for f in facts))
    check_shards(text, shards)
    return Sharding(shards, tuple(facts), mentions, question)


_FACT_LEAD = re.compile(
    r"(?:if|given(?: that)?|assuming(?: that)?|knowing(?: that)?|considering(?: that)?|suppose"
    r"|provided(?: that)?|since|when)\s+",
    re.IGNORECASE,
)
_ASKING = re.compile(
    r"\b(?:(?:in|by|for|at|to|on|of|with|from|after)\s+)?(?:how|what|which|who|when|where)\b"
    r"|\b(?:calculate|find|determine|compute|figure out|work out|express|estimate)\b",
    re.IGNORECASE,
)
#: "Over 12 weeks, how many …": part of the question, not a fact of its own.
_ADVERBIAL = re.compile(
    r"(?:in|over|after|for|at|by|during|within|on|with|of|from|to|out|under"
    r"|per)\b(?:\W+[\w'’$%.-]+){1,7}\W*$",
    re.IGNORECASE,
)
_TRAILING_FACT = re.compile(
    r",? (?:if|given that|assuming(?: that)?|knowing that|considering(?: that)?|provided(?:"
    r" that)?) ",
    re.IGNORECASE,
)
_BOUNDARY = re.compile(
    r"(?:;|,? (?:and|but|while|whereas)(?: then)?|, then|, so|,(?= each| every| the other|"
    r" another)) "
    r"(?=(?:he|she|they|it|[A-Z][a-z]+|each|the other|another|(?:the|his|her|their|a|an|every"
    r"|each) [a-z]+(?: [a-z]+)?) "
    r"(?:is|are|was|were|has|have|had|will|can|costs?|gave|gives?|took|takes?|bought|buys?"
    r"|sold|sells?|got|gets?|paid|pays?"
    r"|made|makes?|ate|eats?|[a-z]+ed|spent|spends?|found|read|reads|ran|runs?|weighs?|holds?"
    r"|contains?|needs?|wants?|drank"
    r"|drinks?|works?|earns?|uses?|lost|won|went|put|puts|left|caught|does|did|decides?)\b)"
)


#: "the gap between her and her sister is": no boundary stands behind this.
_BETWEEN = re.compile(r"\bbetween (?:(?!and\b)[\w’'-]+ ?)+$")


def clauses(text: str) -> Iterator[Part]:
    """The clauses of a text in order; of each question sentence its facts and the asking clause."""
    for sentence in sentences(text):
        asking = sentence.text.rstrip("\"'”’)").endswith("?") or is_request(sentence.text)
        if asking:
            yield from _question_parts(text, sentence)
        else:
            yield from _fact_parts(text, sentence)


def _question_parts(text: str, sentence: Span) -> Iterator[Part]:
    """ "If each costs $2, how much does he pay?" → the condition and the question."""
    ask_at = sentence.start
    for match in _ASKING.finditer(sentence.text):
        before = sentence.text[: match.start()].rstrip()
        ends: object = before.endswith((",", ":", ";")) or re.search(r", (?:then|and|so)$", before)
        ends = ends or (match[0][:3].lower() == "how" and _CONDITION.match(before))
        if ends and numbers(before) and not _ADVERBIAL.match(before):
            ask_at = sentence.start + match.start()
            break
    if ask_at > sentence.start:
        lead = _FACT_LEAD.match(text, sentence.start)
        start = lead.end() if lead else sentence.start
        end = sentence.start + len(text[sentence.start : ask_at].rstrip(" ,:;"))
        end = start + len(re.sub(r",? (?:then|and|so)$", "", text[start:end]))
        yield Part(start, end, cut=Cut("clause", (Edit(sentence.start, ask_at),)))
    trailing = _last(_TRAILING_FACT, text, ask_at, sentence.end)
    if trailing is None or not numbers(text[trailing.end() : sentence.end]):
        yield Part(ask_at, sentence.end, is_question=True)
        return
    fact_end = trailing.end() + len(text[trailing.end() : sentence.end].rstrip("?.! "))
    yield Part(ask_at, trailing.start(), is_question=True)
    yield Part(trailing.end(), fact_end, cut=Cut("clause", (Edit(trailing.start(), fact_end),)))


#: "If he plays 2 hours a day how many beats …": a condition that no comma ends.
_CONDITION = re.compile(r"(?:if|given that|assuming(?: that)?) .*\d", re.IGNORECASE)


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    return next(iter(reversed(list(pattern.finditer(text, start, end)))), None)


#: "If she sells them for $5.": a condition of which nothing is said, as hurried writers put it.
_BARE_IF = re.compile(r"If (?!you\b)(?=[^?]*\d[^?]*\.$)")
_MAIN_CLAUSE = re.compile(
    r", (?!(?:and|but|while|or)\b)|(?<=.{3}) (?:I|he|she|they|it|we|you|there) [a-z]+|[:;]",
)


def _bare_if(sentence: str) -> int:
    """How many characters lead in a condition without a main clause; 0 for any other sentence."""
    lead = _BARE_IF.match(sentence)
    return lead.end() if lead and not _MAIN_CLAUSE.search(sentence, lead.end()) else 0


def _fact_parts(text: str, sentence: Span) -> Iterator[Part]:
    """A sentence split where two clauses with numbers meet: "He gave 3, and Bob took 5."."""
    conditional = _FACT_LEAD.match(text, sentence.start)
    starts, ends = [sentence.start + _bare_if(sentence.text)], []
    for match in _BOUNDARY.finditer(text, sentence.start, sentence.end):
        if _BETWEEN.search(text, starts[-1], match.start()):
            continue
        if numbers(text[starts[-1] : match.start()]) and numbers(text[match.end() : sentence.end]):
            ends.append(match.start())
            starts.append(match.end())
    ends.append(sentence.end)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if len(starts) == 1:
            cut = Edit(start, next_word(text, end))
        elif i == 0:
            cut = Edit(start, starts[1])
        else:
            last = i == len(starts) - 1
            cut = Edit(ends[i - 1], end - 1 if last and text[end - 1] in ".!" else end)
        yield Part(start, end, cut=None if conditional else Cut("clause", (cut,)))


def next_word(text: str, at: int) -> int:
    """Where the next word begins, at `at` or behind the spaces there."""
    while at < len(text) and text[at].isspace():
        at += 1
    return at


#: Words that open a sentence and say nothing but that it goes on.
_GOES_ON = (
    r"(?:and|but|so(?! far\b)|then|also|however|additionally|finally|in addition|moreover|now"
    r"|next(?=,)"
    r"|later(?=,)|after that|afterwards|on the other hand(?=,)),? "
)
_DAYS = (
    r"(?:morning|afternoon|evening|week|month|year|weekend|summer|winter|spring|fall|season|time"
    r"|semester|day)"
)
#: Openings that point back, so that the clause cannot stand in another place.
_POINTS_BACK = re.compile(
    rf"(?:{_GOES_ON})*(?:th(?:is|at|ese|ose)(?! {_DAYS}\b)"
    r"|the (?:rest|remaining|others?|remainder|same|former|latter)"
    r"|the (?:first|second|third|fourth|fifth|last|next)(?= one|[.,]|$| (?:is|was|has|had|costs?"
    r"|of|half)\b)"
    r"|(?:\S+ )?(?:half )?of (?:those|these|this|them|which)|another(?! (?:week|day|month|hour"
    r"|year))"
    r"|others?|both|each one|each of (?:them|those|these)|one of (?:them|those|these)"
    r"|it(?! (?:takes?|took|will take|would take|costs? (?:him|her|them|[A-Z][a-z]+|\S+ to))\b)"
    r"|its|they|their|neither|such|instead|the other|half (?:is|are))\b",
    re.IGNORECASE,
)
_DANGLES = re.compile(
    r"\b(?:of (?:them|those|these|that)|(?:than|as|times|half|twice) (?:that|this|it)"
    r"|that (?:much|many|number|amount|long|far)|(?:of|than|at|for|to|by|as|half"
    r"|twice) that (?:cost"
    r"|price)|this amount|half as (?:many|much)(?! [a-z]+ as)(?=[.,]|$))\b"
)


def _blocks(text: str, parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """Runs of clauses of which a later one points back to an earlier, or may."""
    block: list[Part] = []
    for part in parts:
        words = text[part.start : part.end]
        if block and (_points(words) or referent(text[: part.start], words) is None):
            block.append(part)
            continue
        if block:
            yield tuple(block)
        block = [part]
    if block:
        yield tuple(block)


def _points(words: str) -> bool:
    return bool(_POINTS_BACK.match(words) or _DANGLES.search(words))


@dataclass(frozen=True, slots=True)
class _Told:
    """A sentence that a shard may hold, with its numbers, and the clause that it is, if it is one.

    alone: whether it can be told before all others.
    """

    text: str
    mentions: tuple[int, ...]
    clause: Part | None
    alone: bool = True


def _facts_of(
    text: str, block: Sequence[Part], mentions: Sequence[NumberMention], first_id: int
) -> Iterator[FactShard]:
    """The facts of one block: its sentences, each with those that only make sense behind it."""
    told: list[_Told] = []
    for i, part in enumerate(block):
        before = text[block[i - 1].start : block[i - 1].end] if i else ""
        for sentence in _sentences_of(text, part, before, mentions):
            if told and not sentence.alone:
                last = told.pop()
                joined = f"{last.text} {sentence.text}"
                sentence = _Told(joined, (*last.mentions, *sentence.mentions), None)
            told.append(sentence)
    for offset, sentence in enumerate(told):
        shard = Shard(first_id + offset, sentence.text)
        yield FactShard(shard, sentence.mentions, tuple(_cuts(text, block, sentence, mentions)))


def _sentences_of(
    text: str, part: Part, before: str, mentions: Sequence[NumberMention]
) -> Iterator[_Told]:
    """The sentences that a clause falls into; before: the clause that it may point back to."""
    words = text[part.start : part.end]
    alone = not before
    if before:
        words, alone = _resolved(words, before, text[: part.start])
    left = [
        i
        for i, m in enumerate(mentions)
        if part.start <= m.start < part.end and not is_label(text, m)
    ]
    whole = sentence_of(words)
    pieces = split_clause(whole) if alone else [whole]
    for piece in pieces:
        own = []
        for mention in counted(piece):
            index = next((i for i in left if mentions[i].value == mention.value), None)
            if index is not None:
                own.append(index)
                left.remove(index)
        name = referent(text[: part.start], piece) if alone else ""
        clause = part if len(pieces) == 1 else None
        yield _Told(with_name(piece, name or ""), tuple(own), clause, alone)


def _resolved(words: str, before: str, so_far: str) -> tuple[str, bool]:
    """A clause that points back with its referents named, and whether it now stands alone."""
    said = with_thing(with_antecedent(words, before), before, so_far)
    alone = not _points(said) and referent(so_far, said) is not None
    return (said, True) if alone else (words, False)


def _cuts(
    text: str, block: Sequence[Part], sentence: _Told, mentions: Sequence[NumberMention]
) -> Iterator[Cut]:
    """The cuts that take one number of a sentence out of the text, and the clause as a whole."""
    for index in sentence.mentions:
        home = next(p for p in block if p.start <= mentions[index].start < p.end)
        cut = number_cut(text, mentions[index], home.start)
        if cut is not None and all(home.start <= e.start and e.end <= home.end for e in cut.edits):
            yield cut
    clause = sentence.clause
    if clause is None or clause.cut is None or len(block) > 1:
        return
    if len(sentence.mentions) == len(numbers(text[clause.start : clause.end])) == 1:
        yield clause.cut


_CONNECTIVE = re.compile(rf"(?:{_GOES_ON})+(?=\S)", re.IGNORECASE)


def sentence_of(clause: str, *, ask: bool = False) -> str:
    """A clause as a sentence of its own: a capital, an end, no "and" before it."""
    clause = re.sub(r"[,;:]+(?=\s*[.?!]?$)", "", clause.strip()).strip()
    clause = _CONNECTIVE.sub("", clause, count=1) if _CONNECTIVE.match(clause) else clause
    if clause and clause[-1] not in ".?!\"'”’)":
        clause += "?" if ask and not is_request(clause) else "."
    return clause[:1].upper() + clause[1:]
