"""Data sets that bring their own complete and insufficient prompts, as problems to judge on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import UsageError
from icpo_lite.core.types import Intent, Message, Problem, Prompt
from icpo_lite.data.from_recipe import WORLD, labelled_task
from icpo_lite.data.holdout import Part

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def given_problems(prompts: Sequence[Prompt], data: str) -> list[Problem]:
    """The problems that prompts speak of, each with its complete and its insufficient prompt.

    data: the name that the data set's figures stand under. Further prompts of a kind make
    problems of their own, so that every prompt is judged.
    """
    grouped: dict[tuple[str, int], dict[Intent, Prompt]] = {}
    seen: Counter[tuple[str, Intent]] = Counter()
    for prompt in prompts:
        place = seen[prompt.problem_id, prompt.intent]
        seen[prompt.problem_id, prompt.intent] += 1
        grouped.setdefault((prompt.problem_id, place), {})[prompt.intent] = prompt
    return [
        _problem(name, place, list(kinds.values()), data)
        for (name, place), kinds in grouped.items()
    ]


def _problem(name: str, place: int, prompts: Sequence[Prompt], data: str) -> Problem:
    first = next((p for p in prompts if p.intent is Intent.COMPLETE), prompts[0])
    return Problem(
        problem_id=f"{data}/{name}#{place + 1}" if place else f"{data}/{name}",
        task=first.task,
        question=first.messages[-1].content,
        answer=first.answer,
        solution=first.solution,
        source=first.source,
        columns={**first.columns, "dataset": data},
        prompts=tuple(prompts),
    )


def judges_given(data: Sequence[str], rows: Mapping[str, Any]) -> bool:
    """Whether data sets are judged on prompts of their own: several are, and so is a labelled one.

    rows: what tells which rows are meant (`split`, `config`, `columns`).
    """
    from icpo_lite.data.labelled_rows import holds_labels
    from icpo_lite.data.prompt_file import holds_prompts, read_prompts

    if len(data) > 1:
        return True
    if data[0] == WORLD:
        return False
    if Path(data[0]).is_file() and holds_prompts(data[0]):
        return any(p.certificate.level == "given" for p in read_prompts(data[0]))
    return holds_labels(data[0], **rows)


def read_given_problems(
    data: Sequence[str],
    recipe: Recipe | None,
    rows: Mapping[str, Any],
    *,
    count: int | None,
    left_out: Counter[str] | None = None,
    part: Part | None = None,
) -> list[Problem]:
    """The problems of all data sets, each set under its name; `count` of each, by default all.

    part: what is meant of each set, all if None. Rows without labels are complete prompts. Raises
    UsageError for the built-in world, which is judged alone.
    """
    if WORLD in data:
        raise UsageError(f"--data: expected files that go together, found {WORLD}; give it alone")
    found: list[Problem] = []
    for source, name in zip(data, _names(data), strict=True):
        prompts = _prompts(source, recipe, rows, left_out)
        prompts = prompts if part is None else part.prompts(prompts)
        found += given_problems(prompts, name)[:count]
    return found


def _names(data: Sequence[str]) -> list[str]:
    """What the sets are called: by their file names, or by their paths where those are equal."""
    short = [Path(name).name for name in data]
    if len(set(short)) == len(short):
        return short
    if len(set(data)) < len(data):
        raise UsageError("--data: expected each file once, found one of them twice")
    return list(data)


def _prompts(
    source: str, recipe: Recipe | None, rows: Mapping[str, Any], left_out: Counter[str] | None
) -> list[Prompt]:
    from icpo_lite.data.labelled_rows import holds_labels, read_labelled
    from icpo_lite.data.prompt_file import holds_prompts, read_prompts
    from icpo_lite.data.sources import read_problems

    if Path(source).is_file() and holds_prompts(source):
        return list(read_prompts(source))
    if holds_labels(source, **rows):
        task = labelled_task(recipe) if recipe else None
        return read_labelled(source, **rows, task=task, bad_rows=left_out)
    problems = read_problems(source, **rows, bad_rows=left_out)
    return [as_complete_prompt(problem) for problem in problems]


def as_complete_prompt(problem: Problem) -> Prompt:
    """A problem as the complete prompt that it is."""
    return Prompt(
        prompt_id=f"{problem.problem_id}/{Intent.COMPLETE}",
        problem_id=problem.problem_id,
        task=problem.task,
        intent=Intent.COMPLETE,
        messages=(*problem.opening, Message("user", problem.question)),
        answer=problem.answer,
        solution=problem.solution,
        source=problem.source,
        columns=problem.columns,
        opening=len(problem.opening),
    )
