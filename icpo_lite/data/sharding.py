"""Problems → shards: the question, and the facts it needs, one fact each.

Three methods and one judge. `rules` works offline: sentences, then clauses, then numbers; every
shard is the problem's own words with the other shards' numbers taken out (`data/cuts.py`), so that
nothing is invented. `self` and `endpoint` ask a model. All three pass `check_shards`: nothing lost,
one fact a shard, at least three shards, each readable in any order after the first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.questions import is_request
from icpo_lite.core.sentences import Span, entities, sentences
from icpo_lite.core.types import Generator, Message, Shard
from icpo_lite.core.words import content_words
from icpo_lite.data.deletions import Cut, Edit, apply, number_cut, vague_cut

MIN_SHARDS = 3
MAX_NUMBERS_IN_A_SHARD = 3
#: A longer text, or one with more numbers, is no word problem that turns could hold.
MAX_CHARACTERS = 10_000
MAX_NUMBERS = 60
#: Shards that together are longer than this many times the text tell nearly the same each time.
MAX_GROWTH = 6


class RejectedError(Exception):
    """A problem that cannot be sharded; `reason` is one of a few words to count by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Part:
    """A clause `text[start:end]`; cut: how the clause as a whole leaves the text readable."""

    start: int
    end: int
    is_question: bool = False
    cut: Cut | None = None


@dataclass(frozen=True, slots=True)
class FactShard:
    """A shard with what removing it takes: indices of its numbers, and the cuts that do it."""

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
    question = _sentence_of(text[questions[0].start : questions[0].end], ask=True)
    facts: list[FactShard] = []
    for block in _blocks(text, [p for p in parts if not p.is_question]):
        facts.extend(_shards_of(text, block, mentions, first_id=len(facts) + 1))
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
        ends = before.endswith((",", ":", ";")) or re.search(r", (?:then|and|so)$", before)
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


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    return next(iter(reversed(list(pattern.finditer(text, start, end)))), None)


def _fact_parts(text: str, sentence: Span) -> Iterator[Part]:
    """A sentence split where two clauses with numbers meet: "He gave 3, and Bob took 5."."""
    starts, ends = [sentence.start], []
    for match in _BOUNDARY.finditer(text, sentence.start, sentence.end):
        if numbers(text[starts[-1] : match.start()]) and numbers(text[match.end() : sentence.end]):
            ends.append(match.start())
            starts.append(match.end())
    ends.append(sentence.end)
    conditional = _FACT_LEAD.match(text, sentence.start)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if len(starts) == 1:
            cut = Edit(start, _next_word(text, end))
        elif i == 0:
            cut = Edit(start, starts[1])
        else:
            last = i == len(starts) - 1
            cut = Edit(ends[i - 1], end - 1 if last and text[end - 1] in ".!" else end)
        yield Part(start, end, cut=None if conditional else Cut("clause", (cut,)))


def _next_word(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


#: Openings that point back, so that the clause cannot stand in another place.
_POINTS_BACK = re.compile(
    r"(?:(?:and |but |so |also,? |however,? |in addition,? )*)"
    r"(?:this|that|those|these|the (?:first|rest|remaining|other|others|remainder|next|second"
    r"|third"
    r"|last|same|former|latter)"
    r"|of (?:those|these|this|them|which|the)|another|others?|both|then|after that|afterwards"
    r"|later"
    r"|next|each of|half|one of"
    r"|some of|all of|none of|\S+ of (?:them|those|these|which)|it|its|they|their|one|neither"
    r"|such|instead)\b",
    re.IGNORECASE,
)
_DANGLES = re.compile(
    r"\b(?:of (?:them|those|these|that)|(?:than|as|times|half|twice) (?:that|this|it)|that"
    r" (?:much|many|number|amount|cost"
    r"|price|long|far)|this amount|the rest|the remaining|remainder|the same)\b"
)
_PRONOUN = re.compile(r"\b(?:he|she|him|his|her|hers)\b", re.IGNORECASE)


def _blocks(text: str, parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    """Runs of clauses that only make sense together, because a later one points back."""
    block: list[Part] = []
    names: list[str] = []
    for part in parts:
        words = text[part.start : part.end]
        pointing = bool(_POINTS_BACK.match(words) or _DANGLES.search(words))
        if block and (pointing or _unclear_pronoun(words, names)):
            block.append(part)
        else:
            if block:
                yield tuple(block)
            block = [part]
        names += _people(words)
    if block:
        yield tuple(block)


def _unclear_pronoun(words: str, names: Sequence[str]) -> bool:
    """Whether "he" or "her" stands before any name of its clause and could be several people."""
    pronoun = _PRONOUN.search(words)
    if pronoun is None or len(set(names)) == 1:
        return False
    return not any(e.start < pronoun.start() for e in entities(words))


def _shards_of(
    text: str, block: Sequence[Part], mentions: Sequence[NumberMention], first_id: int
) -> Iterator[FactShard]:
    """The facts of one block, a number each. Raises RejectedError where two are entangled."""
    groups: list[tuple[int, Cut, bool]] = []
    last_end = -1
    for index, mention in enumerate(mentions):
        home = next((p for p in block if p.start <= mention.start < p.end), None)
        if home is None or is_label(mention):
            continue
        cut = number_cut(text, mention, home.start)
        fluent = cut is not None and _inside(cut, home) and cut.edits[0].start >= last_end
        if cut is None or not fluent:
            cut = vague_cut(text, mention)
        if cut.edits[0].start < last_end:
            raise RejectedError("entangled numbers", mention.surface)
        last_end = cut.edits[-1].end
        groups.append((index, cut, fluent))
    if not groups:
        yield FactShard(Shard(first_id, _standalone(text, block, [])), (), ())
    whole = block[0].cut if len(block) == 1 and len(groups) == 1 else None
    for offset, (index, cut, fluent) in enumerate(groups):
        shard_text = _standalone(text, block, [c for i, c, _ in groups if i != index])
        ways = tuple(c for c in (cut if fluent else None, whole) if c is not None)
        yield FactShard(Shard(first_id + offset, shard_text), (index,), ways)


def is_label(mention: NumberMention) -> bool:
    """ "the first day", "one of them", "a pair of shoes": may stand in several shards."""
    words = mention.surface.lower().split()
    return (
        mention.kind == "ordinal"
        or (mention.value == 1 and mention.kind == "cardinal")
        or words[-1] in ("pair", "couple", "pairs")
    )


def _inside(cut: Cut, part: Part) -> bool:
    return all(part.start <= e.start and e.end <= part.end for e in cut.edits)


def _standalone(text: str, block: Sequence[Part], cuts: Sequence[Cut]) -> str:
    """The clauses of a block as sentences of their own, without the numbers that `cuts` take."""
    out = []
    for part in block:
        inner = [
            replace(
                c,
                edits=tuple(
                    Edit(e.start - part.start, e.end - part.start, e.replacement) for e in c.edits
                ),
            )
            for c in cuts
            if _inside(c, part)
        ]
        out.append(_sentence_of(apply(text[part.start : part.end], inner)))
    first = _name_for_pronoun(out[0], _people(text[: block[0].start]))
    return " ".join([first, *out[1:]])


_CONNECTIVE = re.compile(
    r"(?:and|but|so|then|also|however|additionally|finally|in addition|moreover|now),? (?=\S)",
    re.IGNORECASE,
)


def _sentence_of(clause: str, *, ask: bool = False) -> str:
    clause = re.sub(r"[,;:]+(?=\s*[.?!]?$)", "", clause.strip()).strip()
    clause = _CONNECTIVE.sub("", clause, count=1) if _CONNECTIVE.match(clause) else clause
    if clause and clause[-1] not in ".?!\"'”’)":
        clause += "?" if ask and not is_request(clause) else "."
    return clause[:1].upper() + clause[1:]


_PLACE = re.compile(r"\b(?:at|in|near|through|to|from|of|on) (?:the )?$")


def _people(text: str) -> list[str]:
    """The names of a text that a pronoun may stand for: "the gardener at Park Lane" has none."""
    found = entities(text)
    return [e.text for e in found if not _PLACE.search(text, max(0, e.start - 14), e.start)]


def _name_for_pronoun(shard: str, names: Sequence[str]) -> str:
    """ "He buys 4 shirts." → "Tom buys 4 shirts.", where Tom is the only one named before."""
    if len(set(names)) != 1:
        return shard
    name = names[0]
    match = re.match(r"(?:(He|She)|(His|Her))\b(?!\s+(?:and|or)\b)", shard)
    if match is None:
        return shard
    subject = name if match[1] else f"{name}'s"
    return subject + shard[match.end() :]


# ---------------------------------------------------------------- shards that somebody else made


def align(text: str, shards: Sequence[Shard]) -> Sharding:
    """Shards of another hand (a model, a data set) tied to the numbers and words of the text.

    A shard that stands in the text word for word can be cut out whole; one that restates a single
    number can be cut where that number stands.
    """
    mentions = numbers(text)
    unclaimed = {i for i, m in enumerate(mentions) if not is_label(m)}
    facts = []
    for shard in shards:
        if shard.is_question:
            continue
        owned = []
        for number in numbers(shard.text):
            index = next((i for i in sorted(unclaimed) if mentions[i].value == number.value), None)
            if index is not None:
                owned.append(index)
                unclaimed.discard(index)
        facts.append(FactShard(shard, tuple(owned), tuple(_cuts_of(text, shard, owned, mentions))))
    question = next((s.text for s in shards if s.is_question), "")
    return Sharding(tuple(shards), tuple(facts), mentions, question)


def _cuts_of(
    text: str, shard: Shard, owned: Sequence[int], mentions: Sequence[NumberMention]
) -> Iterator[Cut]:
    if len(owned) == 1:
        mention = mentions[owned[0]]
        clause = next((p for p in clauses(text) if p.start <= mention.start < p.end), None)
        if clause is not None and (cut := number_cut(text, mention, clause.start)):
            yield cut
    if (at := text.find(shard.text)) >= 0:
        yield Cut("clause", (Edit(at, _next_word(text, at + len(shard.text))),))


_ASK_FOR_SHARDS = """\
Split the problem below into shards, so that it can be told turn by turn.
Answer with one JSON object and nothing else: {"question": "...", "facts": ["...", "..."]}
- "question" is what is asked, as one short sentence without the facts.
- Each fact holds one piece of information with its number, as one sentence that can be read in \
any order: use names instead of he, she or they. Keep the problem's own words and numbers.
- Leave nothing out and add nothing. Do not solve the problem. Give at least two facts.

Problem:
"""


def shard_by_model(
    texts: Sequence[str], generator: Generator, *, seed: int = 0
) -> list[Sharding | RejectedError]:
    """Shards of each text from a model's reply, or why the reply was rejected."""
    chats = [[Message("user", _ASK_FOR_SHARDS + text)] for text in texts]
    replies = generator.generate(chats, n=1, max_new_tokens=768, temperature=0.0, seed=seed)
    results: list[Sharding | RejectedError] = []
    for text, (reply, *_) in zip(texts, replies, strict=True):
        try:
            shards = _read_reply(reply)
            check_shards(text, shards)
        except RejectedError as rejected:
            results.append(rejected)
        else:
            results.append(align(text, shards))
    return results


def _read_reply(reply: str) -> tuple[Shard, ...]:
    """The shards in a model's reply: the outermost JSON object, whatever stands around it."""
    start, end = reply.find("{"), reply.rfind("}")
    try:
        data = json.loads(reply[start : end + 1]) if start >= 0 else None
    except json.JSONDecodeError:
        data = None
    facts = data.get("facts") if isinstance(data, Mapping) else None
    question = data.get("question") if isinstance(data, Mapping) else None
    if not isinstance(question, str) or not isinstance(facts, list):
        raise RejectedError("no shards in the reply", repr(reply[:80]))
    if not all(isinstance(fact, str) for fact in facts):
        raise RejectedError("no shards in the reply", "a fact is no text")
    return (
        Shard(0, question.strip(), is_question=True),
        *(Shard(i, fact.strip()) for i, fact in enumerate(facts, start=1)),
    )


# ----------------------------------------------------------------------------------------- checks


def check_shards(text: str, shards: Sequence[Shard]) -> None:
    """The one validity check of all methods. Raises RejectedError with the first thing wrong."""
    questions = [s for s in shards if s.is_question]
    if len(questions) != 1:
        raise RejectedError("no question" if not questions else "several questions")
    if len(shards) < MIN_SHARDS:
        raise RejectedError("too few facts", f"{len(shards)} shards, at least {MIN_SHARDS} needed")
    if any(not s.text.strip() for s in shards):
        raise RejectedError("empty shard")
    if sum(len(s.text) for s in shards) > MAX_GROWTH * len(text):
        raise RejectedError("entangled facts", "shards repeat each other's words")
    _check_numbers(text, shards)
    for shard in shards:
        if shard.is_question:
            continue
        if len(numbers(shard.text)) > MAX_NUMBERS_IN_A_SHARD:
            raise RejectedError("several facts in a shard", repr(shard.text))
        if _NOT_FIRST.match(shard.text):
            raise RejectedError("a shard points back", repr(shard.text))
        if _UNREADABLE.search(shard.text):
            raise RejectedError("unreadable shard", repr(shard.text))
    lost = content_words(text) - content_words(" ".join(s.text for s in shards)) - _DROPPABLE
    if len(lost) > 2 and len(lost) > 0.15 * len(content_words(text)):
        raise RejectedError("words lost", " ".join(sorted(lost)))


#: Openings of a shard that has no meaning before some other shard.
_NOT_FIRST = re.compile(
    r"(?:this|those|these|the (?:rest|remaining|others|remainder|latter|former)|of (?:those"
    r"|these|them)"
    r"|then|after that|afterwards|they|he|she)\b",
    re.IGNORECASE,
)
_UNREADABLE = re.compile(
    r"\b(?:several|few(?!er\b)|multi)(?:[a-z]+|%)|\b(?:another|a|an|the|each) some\b|\bseveral"
    r" of several"
    r"|\b(?:each|every|another|a|an) several\b"
    r"|\bage of several|\b(?:some|several) (?:some|several)\b|[^\s(]several|several/|/several"
)
_DROPPABLE = content_words(
    "then finally additionally however moreover addition suppose assuming considering"
)


def _check_numbers(text: str, shards: Sequence[Shard]) -> None:
    """The numbers of the text and of its shards must be the same, each as often."""
    before = Counter(n.value for n in numbers(text) if not is_label(n))
    after = Counter(n.value for s in shards for n in numbers(s.text) if not is_label(n))
    if before != after:
        changed = sorted(str(v) for v in (before - after) + (after - before))
        raise RejectedError("numbers disagree", ", ".join(changed))
