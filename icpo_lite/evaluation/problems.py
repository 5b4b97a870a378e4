"""The problems that a recipe or a file says to judge on, with shards."""

from __future__ import annotations

import contextlib
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.types import (
    Intent,
    Problem,
    Prompt,
)
from icpo_lite.data.from_recipe import WORLD

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


#: Problems that `eval` judges on where nobody says how many.
JUDGED_PROBLEMS = 140


def evaluation_problems(recipe: Recipe) -> list[Problem]:
    """The problems that `evaluation` judges on, shards set; the same for every run and seed."""
    options = recipe.evaluation
    return read_evaluation_problems(
        options.dataset_name, recipe, split=options.split, count=recipe.evaluation.problems, seed=0
    )


def judges_on_training_rows(recipe: Recipe) -> bool:
    """Whether the evaluation takes rows that are trained on: a file has no splits."""
    options = recipe.evaluation
    return options.enabled and trains_on(recipe, options.dataset_name, options.split)


def trains_on(recipe: Recipe | None, data: str | None, split: str) -> bool:
    """Whether these rows are those of the recipe's own training."""
    if recipe is None or data not in (None, recipe.dataset_name):
        return False
    return Path(recipe.dataset_name).is_file() or split == recipe.dataset_train_split


def read_evaluation_problems(
    data: str | None,
    recipe: Recipe | None,
    *,
    split: str,
    count: int | None,
    seed: int,
    left_out: Counter[str] | None = None,
) -> list[Problem]:
    """`count` problems with shards, from `data`, else the recipe's data set, else the world.

    Of a corpus the first `count` problems that the rules can split are taken. count: None is all
    of Lost in Conversation's instructions, and JUDGED_PROBLEMS of anything else. left_out: counts
    the rows that cannot be judged on, by reason.
    """
    from icpo_lite.data.lost_in_conversation import BENCHMARK
    from icpo_lite.data.prompt_file import holds_prompts, read_prompts
    from icpo_lite.data.shard_checks import RejectedError
    from icpo_lite.data.sharding import shard_problem
    from icpo_lite.data.sources import read_problems
    from icpo_lite.data.tiny_world import world_problems

    name = data or (recipe.dataset_name if recipe else WORLD)
    if name == WORLD:
        return list(world_problems(split, count or JUDGED_PROBLEMS, seed=seed))
    if Path(name).is_file() and holds_prompts(name):
        whole = (p for p in read_prompts(name) if p.intent is Intent.COMPLETE and p.shards)
        return [_as_problem(prompt) for prompt in islice(whole, count or JUDGED_PROBLEMS)]
    own = recipe is not None and data in (None, recipe.dataset_name)
    rows = read_problems(
        name,
        columns=recipe.columns if own and recipe else None,
        task=recipe.task if own and recipe else None,
        split=split,
        config=recipe.dataset_config if own and recipe else None,
        bad_rows=left_out,
    )
    found: list[Problem] = []
    for row in rows:
        with contextlib.suppress(RejectedError):
            found.append(shard_problem(row))
        whole_file = count is None and row.columns.get("benchmark") == BENCHMARK
        if not whole_file and len(found) == (count or JUDGED_PROBLEMS):
            break
    return found


def _as_problem(prompt: Prompt) -> Problem:
    """The problem that a complete prompt was made from."""
    return Problem(
        problem_id=prompt.problem_id,
        task=prompt.task,
        question=prompt.text,
        answer=prompt.answer,
        solution=prompt.solution,
        shards=prompt.shards,
        source=prompt.source,
        columns=prompt.columns,
    )
