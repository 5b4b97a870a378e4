"""The file that `augment` writes and `train` reads: JSON Lines, one prompt a line.

    prompt_id     "gsm8k_train-17/underspecified"; unique in the file
    problem_id    the problem that it was made from
    task          math, actions, code or database
    intent        complete (answer it) or underspecified (ask)
    messages      [{"role": "user" | "assistant" | "system", "content": text}, …], last one user
    answer        the gold answer in the form that the task's grader takes (see data/sources.py)
    shards        [{"shard_id": 0, "text": …, "is_question": true}, …]; may be empty
    removed       shard_ids that the messages do not hold; empty where intent is complete, and where
                  the data says that something lacks (certificate given) and not what
    certificate   {"level": marks | numbers | solver | tested | given | none,
                  "out_of_reach": …, "incomplete": …}
    solution      a reference solution, "" where there is none
    source        where the problem came from ("gsm8k_train.jsonl:17")
    columns       what else the row held; graders and user rewards read it
    targets       other words for what lacks; a question that resembles them is targeted
    opening       how many of the first messages came with the corpus: a system turn, earlier turns

The answer may be null where nothing grades it. `solution`, `source`, `columns`, `certificate`,
`targets` and `opening` may be left out; other keys are refused.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icpo_lite.core.errors import DataError
from icpo_lite.core.files import read_json
from icpo_lite.core.paths import at_home
from icpo_lite.core.types import (
    Certificate,
    CertificateLevel,
    Intent,
    Message,
    Prompt,
    Shard,
    TaskName,
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Message(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class _Shard(_Strict):
    shard_id: int
    text: Annotated[str, Field(min_length=1)]
    is_question: bool = False


class _Certificate(_Strict):
    level: CertificateLevel = "none"
    out_of_reach: str = ""
    incomplete: str = ""


class _Row(_Strict):
    """One line of the file."""

    prompt_id: Annotated[str, Field(min_length=1)]
    problem_id: Annotated[str, Field(min_length=1)]
    task: TaskName
    intent: Intent
    messages: Annotated[list[_Message], Field(min_length=1)]
    answer: Any
    shards: list[_Shard] = []
    removed: list[int] = []
    certificate: _Certificate = _Certificate()
    solution: str = ""
    source: str = ""
    columns: dict[str, Any] = {}
    targets: list[str] = []
    opening: Annotated[int, Field(ge=0)] = 0


def write_prompts(path: str | os.PathLike[str], prompts: Iterable[Prompt]) -> int:
    """Write prompts as JSON Lines and return their number; the file appears whole or not at all.

    Raises DataError when there is no prompt to write.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        count = 0
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for prompt in prompts:
                file.write(json.dumps(to_row(prompt), ensure_ascii=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        if not count:
            raise DataError(
                f"expected at least one prompt to write to {target}, found none; "
                "look at the counts of dropped problems, or accept more with accept_levels"
            )
        Path(partial).chmod(0o666 & ~_umask())
        Path(partial).replace(target)
    finally:
        Path(partial).unlink(missing_ok=True)
    return count


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as the JSON object of its line."""
    return {
        "prompt_id": prompt.prompt_id,
        "problem_id": prompt.problem_id,
        "task": prompt.task,
        "intent": str(prompt.intent),
        "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
        "answer": prompt.answer,
        "shards": [
            {"shard_id": s.shard_id, "text": s.text, "is_question": s.is_question}
            for s in prompt.shards
        ],
        "removed": [s.shard_id for s in prompt.removed],
        "certificate": {
            "level": prompt.certificate.level,
            "out_of_reach": prompt.certificate.out_of_reach,
            "incomplete": prompt.certificate.incomplete,
        },
        "solution": prompt.solution,
        "source": prompt.source,
        "columns": dict(prompt.columns),
        "targets": list(prompt.targets),
        "opening": prompt.opening,
    }


def read_prompts(path: str | os.PathLike[str]) -> Iterator[Prompt]:
    """The prompts of a file in order. Raises DataError, with file and line, for anything wrong."""
    place = at_home(os.fspath(path))
    if not place.is_file():
        raise DataError(
            f"expected a file of prompts at {place}, found none; make one with `icpo-lite augment`"
        )
    seen: set[str] = set()
    with place.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            prompt = _read_row(line, f"{place}:{number}")
            if prompt.prompt_id in seen:
                raise DataError(
                    f"{place}:{number}: expected each prompt_id once, found "
                    f"{prompt.prompt_id!r} again; write the file anew with `icpo-lite augment`"
                )
            seen.add(prompt.prompt_id)
            yield prompt
    if not seen:
        raise DataError(
            f"expected prompts in {place}, found an empty file; write it anew with "
            "`icpo-lite augment`"
        )


def holds_prompts(path: str | os.PathLike[str]) -> bool:
    """Whether a file's first line is a prompt and not a problem still to be augmented."""
    place = at_home(os.fspath(path))
    if not place.is_file():
        return False
    with place.open("rb") as file:
        first = file.readline(1_000_000)
    try:
        row = read_json(first)
    except ValueError:
        return False
    return isinstance(row, dict) and {"prompt_id", "intent", "messages"} <= row.keys()


def _read_row(line: bytes, where: str) -> Prompt:
    try:
        row = _Row.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(
            f"{where}: {key}: {first['msg'].lower()}; expected a line that `icpo-lite augment` "
            "wrote"
        ) from None
    shards = {s.shard_id: Shard(s.shard_id, s.text, s.is_question) for s in row.shards}
    problem = _inconsistency(row, shards)
    if problem:
        raise DataError(f"{where}: {problem}")
    return Prompt(
        prompt_id=row.prompt_id,
        problem_id=row.problem_id,
        task=row.task,
        intent=row.intent,
        messages=tuple(Message(m.role, m.content) for m in row.messages),
        answer=row.answer,
        shards=tuple(shards.values()),
        removed=tuple(shards[i] for i in row.removed),
        certificate=Certificate(**row.certificate.model_dump()),
        solution=row.solution,
        source=row.source,
        columns=row.columns,
        targets=tuple(row.targets),
        opening=row.opening,
    )


def _inconsistency(row: _Row, shards: Mapping[int, Shard]) -> str:
    """What contradicts itself in a row, with what to change; empty where nothing does."""
    if len(shards) != len(row.shards):
        return "expected each shard_id once, found one twice; number the shards apart"
    missing = [i for i in row.removed if i not in shards]
    if missing:
        return f"removed: expected shard_ids of this row, found {missing[0]}; name a shard it has"
    lacking = row.intent is Intent.UNDERSPECIFIED
    told = bool(row.removed) or (lacking and row.certificate.level == "given")
    if lacking != told:
        return (
            f"removed: expected shards exactly where intent is underspecified, found "
            f"{len(row.removed)} with {row.intent}; correct one of the two"
        )
    if row.opening >= len(row.messages):
        return (
            f"opening: expected fewer than the {len(row.messages)} messages, found {row.opening}; "
            "count the turns before the question"
        )
    if row.messages[-1].role != "user":
        return f"messages: expected a last turn from the user, found {row.messages[-1].role}"
    return ""
