"""Problems of an evaluation that training has seen: word for word, or almost.

Two texts are almost equal where half of all their runs of three words are the same (Jaccard's
measure), whatever numbers stand in them: the same story with other numbers is almost the same.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.types import Problem
from icpo_lite.data.holdout import problem_text, trained_part
from icpo_lite.data.labelled_rows import holds_labels, read_labelled
from icpo_lite.data.mixture import members
from icpo_lite.data.prompt_file import holds_prompts, read_prompts
from icpo_lite.data.sources import read_problems

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: Share of equal runs of words from which on two problems are almost the same. It finds three
#: of GSM8K's 1319 test problems among its 7473 training problems, each the same story.
NEAR = 0.5
#: Words of a run.
RUN = 3
_WORD = re.compile(r"\w+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Seen:
    """A judged problem that training holds too. likeness: 1 where it is word for word."""

    judged: str
    trained: str
    likeness: float


def seen_in_training(
    judged: Sequence[tuple[str, str]], trained: Iterable[tuple[str, str]]
) -> list[Seen]:
    """The judged problems that are also trained on, exactly or almost, each with its nearest.

    judged, trained: (id, text). Memory and time grow with the judged texts and with one pass over
    the trained ones.
    """
    words = [_words(text) for _, text in judged]
    runs = [_runs(found) for found in words]
    exact: dict[tuple[str, ...], list[int]] = defaultdict(list)
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, (said, found) in enumerate(zip(words, runs, strict=True)):
        exact[said].append(index)
        for run in found:
            holders[run].append(index)
    best: dict[int, Seen] = {}
    for name, text in trained:
        said = _words(text)
        found = _runs(said)
        shared = Counter(index for run in found for index in holders.get(run, ()))
        likeness = {i: n / (len(found) + len(runs[i]) - n) for i, n in shared.items()}
        likeness = {i: min(value, 0.99) for i, value in likeness.items() if value >= NEAR}
        for index, value in (likeness | dict.fromkeys(exact.get(said, ()), 1.0)).items():
            if index not in best or best[index].likeness < value:
                best[index] = Seen(judged[index][0], name, value)
    return [best[index] for index in sorted(best)]


def trained_texts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(id, text) of the problems in the files that a recipe trains on, without making prompts.

    Data sets of the hub are not fetched for this, and of the built-in world every problem is made
    of the same sentences; neither gives any. Nor does a file that is not there any more.
    """
    part = trained_part(recipe)
    for member in members(recipe):
        one = member.recipe
        if not Path(one.dataset_name).is_file():
            continue
        where: dict[str, Any] = {
            "columns": one.columns,
            "split": one.dataset_train_split,
            "config": one.dataset_config,
        }
        if holds_prompts(one.dataset_name):
            prompts = list(read_prompts(one.dataset_name))
        elif holds_labels(one.dataset_name, **where):
            prompts = read_labelled(one.dataset_name, **where, on_bad_row="skip")
        else:
            found = read_problems(one.dataset_name, **where, on_bad_row="skip")
            yield from ((p.problem_id, problem_text(p)) for p in part.problems(found))
            continue
        yield from ((p.problem_id, p.text) for p in part.prompts(prompts))


def seen_line_of(problems: Sequence[Problem], trained: Iterable[tuple[str, str]], what: str) -> str:
    """`seen_line` of the problems that `what` judges on."""
    judged = [(problem.problem_id, problem_text(problem)) for problem in problems]
    return seen_line(seen_in_training(judged, trained), len(judged), what)


def seen_line(seen: Sequence[Seen], judged: int, what: str) -> str:
    """One line that says how many, with an example; "" where there is none."""
    if not seen:
        return ""
    exact = sum(found.likeness == 1 for found in seen)
    kinds = [f"{exact} word for word"] * bool(exact)
    kinds += [f"{len(seen) - exact} almost"] * (exact < len(seen))
    first = max(seen, key=lambda found: found.likeness)
    return (
        f"{len(seen)} of the {judged} problems that {what} judges on are trained on too "
        f"({', '.join(kinds)}), such as {first.judged}, which is {first.trained}; take them out "
        "of one of the two"
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _runs(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    if len(words) < RUN:
        return frozenset({words})
    words = tuple("#" if word[0].isdigit() else word for word in words)
    return frozenset(words[i : i + RUN] for i in range(len(words) - RUN + 1))
