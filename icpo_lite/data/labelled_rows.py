"""Published sets of complete and insufficient prompts → prompts whose labels are the publisher's.

One reader for all of them. A row gives {complete?, underspecified?, label?, answer?, what lacks?}:

    MiP          question, answer, insufficient_question
    AskBench     ori_question, degraded_question, degraded_info, expected_answer, required_points;
                 without a degraded question (QuestBench) the question itself lacks the points
    UMWP         question, answer, answerable, relevant_ids (the whole problem's id)
    IN3          task, vague, missing_details [{description, inquiry, …}]
    CLAMBER      question, context, require_clarification, clarifying_question
    MediQ        question, options, context [sentence, …]; at first a doctor knows the first alone
    When2Call    question, tools, correct_answer (tool_call, request_for_info), held_out_param; or
                 messages and tools, with the right reply last or as chosen_response
    BFCL         conversations in which one turn cannot be acted on (`miss_param`)
    your own     complete, underspecified, answer, missing_points

What lacks becomes `Prompt.removed`, other words for it `Prompt.targets`, the label the intent, with
a certificate of level `given`. Where the publisher gives both texts and does not say what lacks,
the facts that stand in the whole one alone are taken. A complete prompt without an answer that can
be graded has the answer None: it says that nothing lacks, and that is what it is judged by.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import DataError
from icpo_lite.core.numbers import numbers
from icpo_lite.core.questions import questions
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Certificate, Intent, Message, Prompt, Shard, TaskName
from icpo_lite.core.words import content_words
from icpo_lite.data.cells import text_of
from icpo_lite.data.chats import Chat, read_chat
from icpo_lite.data.gold_answers import GOLD, NOT_GRADED, call_gold, guess_task
from icpo_lite.data.row_choices import choices_of
from icpo_lite.data.row_columns import Cells, check_columns
from icpo_lite.data.row_files import BadRowError, LeftOutError, Row
from icpo_lite.data.row_labels import (
    Point,
    call_of_kind,
    is_labelled,
    kind_column,
    label_of,
    points_of,
    require_label,
    sentences_of_a_case,
    text_before,
    turn_that_lacks,
    underspecified_columns,
)
from icpo_lite.data.row_prompts import around, question_text, read_prompt
from icpo_lite.data.sources import (
    OnBadRow,
    Seen,
    functions_of,
    name_of,
    nothing_found,
    plain_columns,
    source_rows,
)

if TYPE_CHECKING:
    from icpo_lite.data.augment import Summary

#: IN3's column of what the user wants, which elsewhere names a kind of task.
_TASK = "task"
#: Rows that are looked at to tell whether a file is labelled.
LOOKED_AT = 20
#: Columns without any of which a row has no gold answer.
_GOLD_COLUMNS: Mapping[TaskName, tuple[str, ...]] = {
    "math": ("answer", "solution", "choice"),
    "code": ("tests",),
    "actions": ("calls",),
    "database": ("query", "answer"),
    "open": ("answer",),
}


@dataclass(frozen=True, slots=True)
class _Side:
    """One prompt of a row, before it is one."""

    intent: Intent
    chat: Chat
    points: tuple[Point, ...] = ()


def holds_labels(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str = "train",
    config: str | None = None,
) -> bool:
    """Whether one of a source's first rows says that something lacks, or that nothing does."""
    looked = 0
    for found in source_rows(source, split, config):
        if found.row is not None:
            looked += 1
            try:
                if is_labelled(Cells(found.row, columns or {})):
                    return True
            except (BadRowError, LeftOutError):
                continue
        if looked == LOOKED_AT:
            break
    return False


def read_labelled(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    task: TaskName | None = None,
    split: str = "train",
    config: str | None = None,
    limit: int | None = None,
    on_bad_row: OnBadRow = "error",
    bad_rows: Counter[str] | None = None,
) -> list[Prompt]:
    """The prompts of a labelled source in order, complete ones before their twins.

    task: None reads it off the columns and answers. limit: of rows. Raises DataError for a bad
    row, with file and line, and when no prompt is left.
    """
    check_columns(columns or {})
    bad = Counter[str]() if bad_rows is None else bad_rows
    reader = _Reader(columns or {}, task, name_of(source))
    prompts: list[Prompt] = []
    taken = 0
    for number, found in enumerate(source_rows(source, split, config), start=1):
        if limit is not None and taken >= limit:
            break
        try:
            if found.error is not None:
                raise found.error
            assert found.row is not None
            prompts += reader.prompts(found.row, found.where, number)
        except LeftOutError as error:
            bad[str(error)] += 1
            continue
        except BadRowError as error:
            if on_bad_row == "error":
                raise DataError(f"{found.where}: {error}") from None
            bad[error.reason] += 1
            continue
        taken += 1
    if not prompts:
        raise nothing_found(source, bad)
    return _with_lost_facts(_with_tasks(prompts, task))


def count_given(prompts: Sequence[Prompt], summary: Summary) -> None:
    """Add prompts whose labels came with the data to the counts of an augmentation."""
    kinds = Counter(p.intent for p in prompts)
    summary.problems += len({p.problem_id for p in prompts})
    summary.complete += kinds[Intent.COMPLETE]
    summary.underspecified += kinds[Intent.UNDERSPECIFIED]
    summary.certified += kinds[Intent.UNDERSPECIFIED]
    summary.levels["given"] += kinds[Intent.UNDERSPECIFIED]


class _Reader:
    """Rows of one source → prompts; knows the ids seen."""

    def __init__(self, columns: Mapping[str, str], task: TaskName | None, stem: str) -> None:
        self._columns = columns
        self._task = task
        self._stem = stem
        self._seen = Seen(stem)

    def prompts(self, row: Row, where: str, number: int) -> list[Prompt]:
        """The prompts of a row. Raises BadRowError."""
        cells = Cells(row, self._columns)
        task = self._task or ("actions" if kind_column(cells) else guess_task(cells))
        sides, evidence = _sides(cells, task)
        reply = next((s.chat.reply for s in sides if s.chat.reply), "")
        answer, solution = _gold(cells, task, reply)
        extra: dict[str, Any] = choices_of(cells).column()
        if task == "math" and answer is None and extra:
            task = "open"  # a choice in words is no mathematics
        if cells.column("functions"):
            extra["functions"] = functions_of(cells)
        before = text_before(cells)
        row_id = self._seen.name(cells.take("id"), number)
        problem_id = self._whole_problem(row) or row_id
        out: list[Prompt] = []
        for side in sides:
            again = sum(p.intent is side.intent for p in out)
            prompt = Prompt(
                prompt_id=f"{row_id}/{side.intent}" + (f"-{again + 1}" if again else ""),
                problem_id=problem_id,
                task=task,
                intent=side.intent,
                messages=(*side.chat.opening, Message("user", side.chat.question)),
                answer=answer,
                certificate=Certificate("none"),
                solution=solution if side.intent is Intent.COMPLETE else "",
                source=where,
                opening=len(side.chat.opening),
            )
            out.append(_held_out(_lacking(prompt, side, evidence), before))
        columns = plain_columns(row, cells.used) | extra
        return [replace(prompt, columns=columns) for prompt in out]

    def _whole_problem(self, row: Row) -> str:
        """The problem of which a row is the insufficient twin, where it names one (UMWP)."""
        related = row.get("relevant_ids")
        one = isinstance(related, list) and len(related) == 1
        return f"{self._stem}-{related[0]}" if one and related else ""


def _sides(cells: Cells, task: TaskName) -> tuple[list[_Side], str]:
    """The prompts that a row gives, and what says which is which."""
    turn = turn_that_lacks(cells)
    if turn is not None:
        return _conversation(cells, turn), "a turn without calls"
    known = label_of(cells)
    points = points_of(cells)
    if columns := underspecified_columns(cells):
        sides = _whole(cells, task)
        for column in columns:
            chat = around(cells, Chat(question_text(cells.use(column))), task, column)
            sides.append(_Side(Intent.UNDERSPECIFIED, chat, points))
        return sides, ", ".join(columns)
    chat = _question(cells, task)
    if known is not None:
        return [_Side(known[0], chat, points)], known[1]
    if first := sentences_of_a_case(cells):
        return _as_in_mediq(cells, chat, first), "context"
    if not points:
        require_label(cells)
        return [_Side(Intent.COMPLETE, chat)], ""
    return [_Side(Intent.UNDERSPECIFIED, chat, points)], str(cells.column("missing"))


def _whole(cells: Cells, task: TaskName) -> list[_Side]:
    """The complete prompt beside an insufficient one, where the row has it."""
    if not any(cells.column(name) for name in ("complete", "question", "messages")):
        return []
    return [_Side(Intent.COMPLETE, _question(cells, task))]


def _question(cells: Cells, task: TaskName) -> Chat:
    """The question of a labelled row, by the names of such sets or by the usual ones."""
    usual = cells.column("question") or cells.column("messages")
    column = cells.column("complete")
    if column is None or (usual and column.strip().lower() == _TASK):
        return read_prompt(cells, task)
    text = question_text(cells.use(column))
    if usual is None or cells.named("complete"):
        return around(cells, Chat(text), task, column)
    found = read_prompt(cells, task)
    if text not in found.question:
        raise BadRowError(
            "one complete question",
            f"different ones in {column} and {usual}",
            f"say which is meant: columns: {{complete: {column}}}",
        )
    return found


def _as_in_mediq(cells: Cells, chat: Chat, facts: Sequence[str]) -> list[_Side]:
    """The case with all its sentences, and with the first alone."""
    whole = text_of(list(facts), "words in context")
    start = chat.question.replace(whole, facts[0].strip(), 1)
    lacking = tuple(Point(fact.strip()) for fact in facts[1:] if fact.strip())
    return [
        _Side(Intent.COMPLETE, chat),
        _Side(Intent.UNDERSPECIFIED, replace(chat, question=start), lacking),
    ]


def _conversation(cells: Cells, turn: int) -> list[_Side]:
    """BFCL's conversation up to the turn that lacks something, and with what is then told.

    What the assistant did before stands in its turns, as the calls that it should have made.
    """
    said, made = cells.use("question"), cells.use("ground_truth")
    spoken = [read_chat(t, cells.keys) for t in said[: turn + 2]]
    opening: list[Message] = []
    for chat, calls in zip(spoken[:turn], made, strict=False):
        opening += [*chat.opening, Message("user", chat.question)]
        opening.append(Message("assistant", f"[{', '.join(map(str, calls))}]"))
    lacking, told = spoken[turn].question, spoken[turn + 1].question
    return [
        _Side(Intent.COMPLETE, Chat(f"{lacking}\n{told}", tuple(opening))),
        _Side(Intent.UNDERSPECIFIED, Chat(lacking, tuple(opening)), (Point(told),)),
    ]


def _gold(cells: Cells, task: TaskName, reply: str) -> tuple[Any, str]:
    """The answer and solution; None for an answer that is not there or that nothing grades."""
    if (call := call_of_kind(cells)) is not None:
        return call_gold(call)
    columns = {cells.column(name) for name in _GOLD_COLUMNS[task]} - {None}
    if columns & cells.used or not (columns or reply):
        return None, ""  # the calls of a conversation, or no answer at all
    if task == "math" and not any((reply, *map(cells.words, _GOLD_COLUMNS[task]))):
        return None, ""  # a list of answers that is empty
    try:
        return GOLD[task](cells, reply)
    except BadRowError as error:
        if error.reason not in NOT_GRADED:
            raise
        return None, reply or cells.text("answer", "an answer")


# ------------------------------------------------------------------------------- intent and shards


def _lacking(prompt: Prompt, side: _Side, evidence: str) -> Prompt:
    """The prompt with what it lacks, and whose word that is."""
    if side.intent is Intent.COMPLETE:
        return prompt
    certificate = Certificate("given", f"the data says so: {evidence}")
    return _without(replace(prompt, certificate=certificate), side.points)


def _held_out(prompt: Prompt, before: str) -> Prompt:
    """The prompt with the facts that its text held before something was taken out of it."""
    if prompt.intent is Intent.COMPLETE or not before:
        return prompt
    lost = lost_facts(before, prompt.messages[-1].content)
    return replace(prompt, targets=(*prompt.targets, *lost))


def _without(prompt: Prompt, points: Sequence[Point]) -> Prompt:
    """The prompt with its own sentences as shards, and one more for each point that it lacks."""
    if not points:
        return prompt
    own = [s.text.strip() for s in sentences(prompt.messages[-1].content) if s.text.strip()]
    kept = tuple(Shard(i, text, bool(questions(text))) for i, text in enumerate(own))
    gone = tuple(Shard(len(kept) + i, point.text) for i, point in enumerate(points))
    asked = tuple(words for point in points for words in point.asked)
    return replace(prompt, shards=(*kept, *gone), removed=gone, targets=asked)


def _with_tasks(prompts: Sequence[Prompt], task: TaskName | None) -> list[Prompt]:
    """Prompts without an answer are open tasks, where nothing in their file is mathematics."""
    if task is not None or any(p.task != "math" or p.answer is not None for p in prompts):
        return list(prompts)
    counted = sum(bool(re.search(r"\d", p.text)) for p in prompts)
    return [p if 2 * counted >= len(prompts) else replace(p, task="open") for p in prompts]


def _with_lost_facts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Insufficient prompts with the facts that their whole twin states and they do not."""
    whole = {p.problem_id: p.text for p in prompts if p.intent is Intent.COMPLETE}
    out = []
    for prompt in prompts:
        lost: tuple[str, ...] = ()
        if prompt.intent is Intent.UNDERSPECIFIED and prompt.problem_id in whole:
            lost = lost_facts(whole[prompt.problem_id], prompt.text)
        if lost and prompt.removed:
            prompt = replace(prompt, targets=(*prompt.targets, *lost))
        elif lost:
            prompt = _without(prompt, [Point(text) for text in lost])
        out.append(_without_remains(prompt, lost))
    return out


def _without_remains(prompt: Prompt, lost: Sequence[str]) -> Prompt:
    """The prompt without shards that are what a lost fact has left behind ("She buys pens.").

    A question about the fact would seem to ask for what these give.
    """
    spoken = [_spoken(text) for text in lost]
    gone = {shard.shard_id for shard in prompt.removed}
    kept = tuple(
        s
        for s in prompt.shards
        if s.shard_id in gone or s.is_question or not _resembles(_spoken(s.text), spoken)
    )
    return replace(prompt, shards=kept)


def _resembles(words: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    matchers = (difflib.SequenceMatcher(None, words, other, autojunk=False) for other in others)
    return any(matcher.ratio() >= _REMAINS for matcher in matchers)


_WORD = re.compile(r"[A-Za-z]+|\d[\d.,/]*")
_CLAUSE = re.compile(r"[,;:]\s+|\s+(?:and|but|while|if|because|so|which)\s+", re.IGNORECASE)
#: A sentence that has so much in common with a lost fact is what is left of it.
_REMAINS = 0.6
#: Of two texts the later must share this much with the earlier to be the same one cut short.
_SAME = 0.5


def lost_facts(whole: str, left: str) -> tuple[str, ...]:
    """The clauses of a text that hold what a shortened text has lost: a word or a number.

    A question that went is no fact; one that lost a number is. Empty where the texts are too
    different to be one and the same.
    """
    words = list(_WORD.finditer(whole))
    before, after = _spoken(whole), _spoken(left)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    if matcher.ratio() < _SAME:
        return ()
    gone = [
        words[i].start()
        for tag, start, end, *_ in matcher.get_opcodes()
        if tag in ("delete", "replace")
        for i in range(start, end)
        if before[i][0].isdigit() or content_words(before[i]) or numbers(before[i])
    ]
    said = f" {' '.join(after)} "
    return tuple(
        text
        for start, end in _clauses(whole)
        if any(start <= at < end for at in gone)
        and f" {' '.join(_spoken(whole[start:end]))} " not in said
        and (text := whole[start:end].strip(" ,;:"))
        and ("?" not in text or any(start <= at < end and whole[at].isdigit() for at in gone))
    )


def _spoken(text: str) -> list[str]:
    """The words and numbers of a text, in small letters."""
    return [m[0].lower().rstrip(".,") for m in _WORD.finditer(text)]


def _clauses(text: str) -> list[tuple[int, int]]:
    """The spans of a text's clauses."""
    spans = []
    for sentence in sentences(text):
        marks = [m.end() for m in _CLAUSE.finditer(sentence.text)]
        ends = [*(m.start() for m in _CLAUSE.finditer(sentence.text)), len(sentence.text)]
        starts = [0, *marks]
        spans += [
            (sentence.start + a, sentence.start + b) for a, b in zip(starts, ends, strict=True)
        ]
    return spans
