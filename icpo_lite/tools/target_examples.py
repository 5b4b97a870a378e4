"""Examples for the judge of targets: questions of labelled prompts, and more made of them by rule.

A row names a problem of a corpus and the numbers that its prompt lacks, or tells a problem of its
own, and says who wrote the questions (`writer`), which `half` they are in, and the questions that
ask for what lacks (`on`) or miss it (`off`). People who are asked for such questions write those
that hit in far-fetched words and those that miss in the problem's own. So that words alone tell
nothing, each problem is used a second time: as if another of its facts lacked, where the questions
that hit before miss; and each fact is asked for in its own words (`asking_questions`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icpo_lite.core.errors import DataError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.data.asking_questions import question_for
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.sources import read_problems
from icpo_lite.rewards.learned_targets import pieces
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.rule_targets import points_at
from icpo_lite.rewards.target_features import Read, read_features, read_statements

#: Other facts that are taken for the lacking one, questions that then miss, and how often the
#: question for the true one is added.
_TAKEN, _MISSES, _OWN = 2, 2, 0.4
_COLUMNS = ("problem_id", "half", "writer", "lacks", "on", "off")


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its label. reads: of each of its pieces; removed: facts that lack.

    by_rules: whether the rules take it for on target. made: whether it was made by rule; kind:
    how, for the table.
    """

    problem: str
    writer: str
    half: str
    question: str
    label: bool
    reads: tuple[Read, ...]
    removed: int
    by_rules: bool
    kind: str = ""

    @property
    def made(self) -> bool:
        return bool(self.kind)


def read_cases(questions: Path, corpus: Path) -> list[tuple[Mapping[str, Any], Prompt]]:
    """Each row with its prompt: its own, or the corpus's where that lacks the same numbers.

    Raises DataError for a row without a column of `_COLUMNS`, and where no prompt is left.
    """
    rows = {}
    for at, line in enumerate(questions.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        if missing := [name for name in _COLUMNS if name not in row]:
            raise DataError(f"{questions}:{at}: expected a column {missing[0]!r}, found none")
        rows[row["problem_id"]] = row
    problems = [p for p in read_problems(str(corpus)) if p.problem_id in rows]
    found = {name: (row, _own_prompt(row)) for name, row in rows.items() if "prompt" in row}
    for prompt in augment(problems, AugmentOptions()):
        row = rows[prompt.problem_id]
        lacks = prompt.intent is Intent.UNDERSPECIFIED
        if lacks and set(row["lacks"]) == missing_numbers(prompt):
            found[prompt.problem_id] = (row, prompt)
    if not found:
        raise DataError(f"{corpus}: expected problems that {questions} names, found none")
    return list(found.values())


def _own_prompt(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row that tells its problem: `prompt`, `goal`, `removed` and `given`."""
    facts = [Shard(i, text) for i, text in enumerate([*row["removed"], *row["given"]], start=1)]
    return Prompt(
        row["problem_id"],
        row["problem_id"],
        "math",
        Intent.UNDERSPECIFIED,
        (Message("user", row["prompt"]),),
        None,
        shards=(Shard(0, row["goal"], is_question=True), *facts),
        removed=tuple(facts[: len(row["removed"])]),
    )


def missing_numbers(prompt: Prompt) -> set[str]:
    """The numbers of the removed facts that the prompt no longer holds."""
    left = {n.value for n in numbers(prompt.text)}
    told = {n.value for shard in prompt.removed for n in numbers(shard.text)}
    return {str(value) for value in told - left}


def examples(row: Mapping[str, Any], prompt: Prompt) -> Iterator[Example]:
    """The questions of a row, then those made of them by rule."""
    draw = random.Random(f"targets/{prompt.problem_id}")
    for column, label in (("on", True), ("off", False)):
        for question in row[column]:
            yield _example(row, prompt, question, label)
    given = [s for s in prompt.shards if _tells(s) and s not in prompt.removed]
    draw.shuffle(given)
    own = [question_for(shard.text) for shard in prompt.removed]
    yield from _made(row, prompt, own, label=True, kind="own words")
    yield from _made(row, prompt, [question_for(s.text) for s in given[:1]], kind="given")
    yield from _made(row, prompt, [s.text for s in prompt.shards if s.is_question], kind="the task")
    if len(prompt.removed) == 1:
        lacking = _values(prompt.removed[0])
        for other in [s for s in given if not _values(s) & lacking][:_TAKEN]:
            taken = _lacking(prompt, other)
            misses = draw.sample(row["on"], min(_MISSES, len(row["on"])))
            yield from _made(row, taken, misses, kind="other words, given")
            yield from _made(row, taken, [question_for(other.text)], label=True, kind="own words")
            if draw.random() < _OWN:
                yield from _made(row, taken, own, kind="given")


def _tells(shard: Shard) -> bool:
    return not shard.is_question and bool(_values(shard))


def _values(shard: Shard) -> set[Any]:
    return {n.value for n in numbers(shard.text)}


def _lacking(prompt: Prompt, other: Shard) -> Prompt:
    """The prompt as if it lacked another fact, and held the one that it lacks."""
    text = " ".join(s.text for s in prompt.shards if s != other)
    said = replace(prompt.messages[-1], content=text)
    return replace(prompt, removed=(other,), messages=(said,))


def _made(
    row: Mapping[str, Any],
    prompt: Prompt,
    questions: list[str | None] | list[str],
    *,
    kind: str,
    label: bool = False,
) -> Iterator[Example]:
    for question in questions:
        if question:
            yield _example(row, prompt, question, label, kind)


def _example(
    row: Mapping[str, Any], prompt: Prompt, question: str, label: bool, kind: str = ""
) -> Example:
    problem = read_statements(prompt.removed, prompt.shards, prompt.text)
    units = asked(question) or (question,)
    reads = tuple(
        read_features(piece, question, prompt.text, problem)
        for unit in units
        for piece in pieces(unit, question)
    )
    return Example(
        prompt.problem_id, row["writer"], row["half"], question, label, reads,
        len(prompt.removed),
        any(points_at(unit, problem.frame) == "removed" for unit in units),
        kind,
    )  # fmt: skip
