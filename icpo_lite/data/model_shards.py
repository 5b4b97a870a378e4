"""Shards that somebody else made: a model's, or a data set's, tied to the words of the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from icpo_lite.core.files import read_json
from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.types import Generator, Message, Shard
from icpo_lite.data.deletions import number_cut
from icpo_lite.data.labels import is_label
from icpo_lite.data.shard_checks import RejectedError, check_shards
from icpo_lite.data.sharding import FactShard, Sharding, clauses, next_word
from icpo_lite.data.text_edits import Cut, Edit


def align(text: str, shards: Sequence[Shard]) -> Sharding:
    """Shards of another hand (a model, a data set) tied to the numbers and words of the text.

    A shard that stands in the text word for word can be cut out whole; one that restates a single
    number can be cut where that number stands.
    """
    mentions = numbers(text)
    unclaimed = {i for i, m in enumerate(mentions) if not is_label(text, m)}
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
        yield Cut("clause", (Edit(at, next_word(text, at + len(shard.text))),))


_ASK_FOR_SHARDS = """\
Split the problem below into shards, so that it can be told turn by turn.
Answer with one JSON object and nothing else: {"question": "...", "facts": ["...", "..."]}
- "question" is what is asked, as one short sentence without the facts.
- Each fact holds one piece of information with its number, as one sentence that can be read in \
any order: use names instead of he, she or they. Keep the problem's own words and numbers, and \
put no "some" or "several" where a number was.
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
        data = read_json(reply[start : end + 1]) if start >= 0 else None
    except ValueError:
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
