"""The problems that a recipe or a file says to judge on, with shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import (
    Intent,
    Problem,
    Prompt,
)
from icpo_lite.data.from_recipe import WORLD, WORLD_PROBLEMS
from icpo_lite.data.holdout import judged_part
from icpo_lite.data.mixture import members, shares
from icpo_lite.data.named_data import require_data
from icpo_lite.evaluation.given_prompts import (
    as_complete_prompt,
    given_problems,
    judges_given,
    read_given_problems,
)

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


#: Problems that `eval` judges on where nobody says how many.
JUDGED_PROBLEMS = 140


def evaluation_problems(recipe: Recipe) -> list[Problem]:
    """The problems that `evaluation` judges on, shards set; the same for every run and seed.

    Raises RecipeError where there is none, or where they cannot be graded.
    """
    options, left_out = recipe.evaluation, Counter[str]()
    require_data(recipe, "evaluation.dataset_name", options.dataset_name)
    for one in members(recipe):
        require_data(recipe, "datasets" if one.name else "dataset_name", one.recipe.dataset_name)
    found = read_evaluation_problems(
        options.dataset_name,
        recipe,
        split=options.split,
        count=options.problems,
        seed=0,
        left_out=left_out,
    )
    require_judgeable(found, recipe, "evaluation", left_out)
    return found


def require_judgeable(
    problems: Sequence[Problem], recipe: Recipe, key: str, left_out: Mapping[str, int]
) -> None:
    """Raises RecipeError, with the key's line, where a run could not be judged at its end.

    left_out: rows that became no problem, by what was expected of them.
    """
    if not problems:
        reasons = "; ".join(f"{n} rows, expected {reason}" for reason, n in left_out.items())
        raise RecipeError(
            f"{recipe.where(key)}: {key}: expected problems to judge on, found none"
            f"{f' ({reasons})' if reasons else ''}; name a data set that holds some, or switch it "
            "off (evaluation.enabled: false, eval_steps: null)"
        )
    if not recipe.allow_code_execution and any(p.task == "code" for p in problems):
        raise RecipeError(
            f"{recipe.where(key)}: {key}: judging code runs it; set allow_code_execution: true to "
            "agree, or judge on another task"
        )
    bare = next((p for p in problems if p.task == "database" and not _has_database(p)), None)
    if bare is not None:
        raise RecipeError(
            f"{recipe.where(key)}: {key}: expected a database with each row (a column schema or "
            f"db_path, or a db_id whose file lies beside the data), found none at {bare.source}"
        )


def _has_database(problem: Problem) -> bool:
    return bool(problem.columns.get("schema") or problem.columns.get("db_path"))


def judges_on_training_rows(recipe: Recipe) -> bool:
    """Whether the evaluation takes rows that are trained on: a file has no splits."""
    options = recipe.evaluation
    return options.enabled and trains_on(recipe, options.dataset_name, options.split)


def trains_on(recipe: Recipe | None, data: str | Sequence[str] | None, split: str) -> bool:
    """Whether these rows are those of the recipe's own training; a hold-out is not."""
    names = [data] if isinstance(data, str) else list(data or ())
    if recipe is None or (not names and recipe.eval_holdout):
        return False
    trained = [member.recipe for member in members(recipe)]
    return any(
        Path(one.dataset_name).is_file() or split == one.dataset_train_split
        for one in trained
        if not names or one.dataset_name in names
    )


def read_evaluation_problems(
    data: str | Sequence[str] | None,
    recipe: Recipe | None,
    *,
    split: str,
    count: int | None,
    seed: int,
    left_out: Counter[str] | None = None,
) -> list[Problem]:
    """`count` problems with shards, from `data`, else the recipe's data sets, else the world.

    Where no data are named, what `eval_holdout` keeps back of the training data is taken.
    Of a corpus the first `count` problems that the rules can split are taken. Several data sets,
    and one whose rows say what lacks, are judged on their own prompts (`given_prompts.py`). count:
    None is all of these and of Lost in Conversation's instructions, and JUDGED_PROBLEMS of anything
    else; a corpus that is named here, most of whose rows cannot be split, is judged whole, as
    complete prompts. left_out: counts the rows that cannot be judged on, by reason.
    """
    from icpo_lite.data.lost_in_conversation import BENCHMARK
    from icpo_lite.data.prompt_file import holds_prompts, read_prompts
    from icpo_lite.data.shard_checks import RejectedError
    from icpo_lite.data.sources import read_problems
    from icpo_lite.data.tiny_world import world_problems
    from icpo_lite.data.value_shards import shard_problem

    names = [data] if isinstance(data, str) else list(data or ())
    if recipe is not None and not names and recipe.datasets:
        return _of_each(recipe, split=split, count=count, seed=seed, left_out=left_out)
    part = judged_part(recipe, split) if recipe is not None and not names else None
    if recipe is not None and part is not None:
        split = recipe.dataset_train_split
    own = recipe is not None and (not names or names == [recipe.dataset_name])
    names = names or [recipe.dataset_name if recipe else WORLD]
    rows_of: dict[str, Any] = {
        "columns": recipe.columns if own and recipe else None,
        "split": split,
        "config": recipe.dataset_config if own and recipe else None,
    }
    if judges_given(names, rows_of):
        return read_given_problems(
            names, recipe if own else None, rows_of, count=count, left_out=left_out, part=part
        )
    name = names[0]
    if name == WORLD and recipe is not None and part is not None:
        world = world_problems(split, WORLD_PROBLEMS, seed=recipe.seed)
        return list(islice(part.problems(world), count or JUDGED_PROBLEMS))
    if name == WORLD:
        return list(world_problems(split, count or JUDGED_PROBLEMS, seed=seed))
    if Path(name).is_file() and holds_prompts(name):
        prompts = list(read_prompts(name))
        prompts = prompts if part is None else part.prompts(prompts)
        whole = (p for p in prompts if p.intent is Intent.COMPLETE and p.shards)
        return [_as_problem(prompt) for prompt in islice(whole, count or JUDGED_PROBLEMS)]
    task = recipe.task if own and recipe else None
    rows = read_problems(name, **rows_of, task=task, bad_rows=left_out)
    rows = rows if part is None else part.problems(rows)
    found: list[Problem] = []
    seen: list[Problem] = []
    rejected: Counter[str] = Counter()
    for row in rows:
        seen.append(row)
        try:
            found.append(shard_problem(row))
        except RejectedError as error:
            rejected[f"what splits into facts, found {error.reason}"] += 1
        whole_file = count is None and row.columns.get("benchmark") == BENCHMARK
        if not whole_file and len(found) == (count or JUDGED_PROBLEMS):
            break
    if not own and 2 * len(found) < len(seen):
        whole_rows = [as_complete_prompt(row) for row in seen[:count]]
        return given_problems(whole_rows, Path(name).name)
    if left_out is not None:
        left_out.update(rejected)
    return found


def _of_each(
    recipe: Recipe, *, count: int | None, left_out: Counter[str] | None, **which: Any
) -> list[Problem]:
    """Problems of each of a recipe's data sets by weight, their ids under its name.

    Where one of them is judged on its own prompts, all are.
    """
    sets = members(recipe)
    wanted = shares(sets, count or JUDGED_PROBLEMS)
    read = [
        read_evaluation_problems(None, one.recipe, count=n, left_out=left_out, **which)
        for one, n in zip(sets, wanted, strict=True)
    ]
    given = any(problem.prompts for found in read for problem in found)
    out: list[Problem] = []
    for one, found in zip(sets, read, strict=True):
        if given and not any(problem.prompts for problem in found):
            found = given_problems([as_complete_prompt(p) for p in found], one.name)
        out += [replace(p, problem_id=f"{one.name}/{p.problem_id}") for p in found]
    return out


def _as_problem(prompt: Prompt) -> Problem:
    """The problem that a complete prompt was made from."""
    said = prompt.messages[prompt.opening :]
    return Problem(
        problem_id=prompt.problem_id,
        task=prompt.task,
        question="\n".join(m.content for m in said if m.role == "user"),
        answer=prompt.answer,
        solution=prompt.solution,
        shards=prompt.shards,
        source=prompt.source,
        columns=prompt.columns,
        opening=prompt.messages[: prompt.opening],
    )
