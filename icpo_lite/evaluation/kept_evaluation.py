"""One model's evaluation in a folder: what was interrupted goes on, what is whole is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icpo_lite import __version__
from icpo_lite.evaluation.resume import Progress
from icpo_lite.evaluation.runner import Evaluation, evaluate, write_evaluation
from icpo_lite.rewards.from_recipe import choose_shard

if TYPE_CHECKING:
    from icpo_lite.core.types import Judge, Problem
    from icpo_lite.rollout.conversation import Talker

#: Replies of a served model whose evaluation is not done yet.
REPLIES = ".replies"


def judged_in(
    place: Path,
    name: str,
    talker: Talker,
    judge: Judge,
    problems: Sequence[Problem],
    *,
    identity: str,
    facts: Mapping[str, Any],
    finish: Callable[[Evaluation], Evaluation],
    tell: Callable[[str], None],
    **how: Any,
) -> dict[str, Any]:
    """Evaluate and write eval.json and conversations.jsonl into `place`; returns the figures.

    identity: names all that the conversations depend on (`resume.Progress`). facts: written as
    `judged_with`. finish: adds figures that need more than the conversations. how: the rest of what
    `runner.evaluate` takes.
    """
    place.mkdir(parents=True, exist_ok=True)
    progress = Progress(place / "conversations.partial.jsonl", identity)
    if progress.found:
        tell(f"{name}: goes on after {progress.found} portions that were judged before")
    result = evaluate(
        name, talker, judge, problems, choose=choose_shard, progress=progress, tell=tell, **how
    )
    result = finish(result)
    summary = {**result.summary, "judged_with": dict(facts)}
    write_evaluation(replace(result, summary=summary), place)
    progress.remove()
    return summary


def identity_of(
    model: Sequence[Any], options: Mapping[str, Any], problems: Sequence[Problem]
) -> str:
    """A hash of a model, of how it is judged (`judging.played`) and of what its problems say."""
    asked = [
        *(__version__, *model, options),
        [
            [p.problem_id, p.task, p.question, p.answer, [s.text for s in p.shards]]
            + [[q.prompt_id, q.text] for q in p.prompts]
            for p in problems
        ],
    ]
    text = json.dumps(asked, default=str, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
