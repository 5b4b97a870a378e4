"""Replies of an earlier run in the place of new samples: `logged_completions`.

A run keeps texts and rewards of all that it sampled, and no token ids: a logged reply is tokenised
anew, judged and rewarded by today's recipe. The policy that sampled it is not there any more, so
its log-probs are not known; the ratio of a loss is against the policy at the step's start.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import DataError, RecipeError
from icpo_lite.core.types import Group, Prompt, Trajectory, Turn
from icpo_lite.data.logged_rows import logged_rows
from icpo_lite.policy.chat_marks import harmless_text
from icpo_lite.training.demonstrations import turn_end_id

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


@dataclass(frozen=True)
class LoggedReplies:
    """The logged replies of each prompt, by its id: (text, whether it was cut off)."""

    replies: dict[str, list[tuple[str, bool]]]
    count: int
    seed: int
    longest: int

    @classmethod
    def of(cls, recipe: Recipe) -> LoggedReplies | None:
        """Those of the run that the recipe names; None where it samples.

        Raises RecipeError where that is this run itself, DataError where it has no group of
        `num_generations` single replies.
        """
        if (run := recipe.logged_completions) is None:
            return None
        if Path(run).resolve() == Path(recipe.output_dir).resolve():
            raise RecipeError(
                f"{recipe.where('logged_completions')}: logged_completions: expected an earlier "
                f"run, found output_dir itself; set another output_dir"
            )
        found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        for _, row in logged_rows(run, ("prompt_id", "completion", "stop_reason")):
            if "turns" not in row:
                cut_off = row["stop_reason"] == "length"
                found[str(row["prompt_id"])].append((str(row["completion"]), cut_off))
        enough = {name: rows for name, rows in found.items() if len(rows) >= recipe.num_generations}
        if not enough:
            raise DataError(
                f"{run}: expected logged replies, {recipe.num_generations} or more to a prompt "
                f"(num_generations), found none; give a run of single replies, or lower it"
            )
        longest = recipe.max_completion_length
        return cls(enough, recipe.num_generations, recipe.seed, longest)

    def known(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts that have logged replies. Raises DataError where none has."""
        kept = [p for p in prompts if p.prompt_id in self.replies]
        if not kept:
            raise DataError(
                "logged_completions: expected replies to this recipe's prompts, found those of "
                "others; name the data set and seed of that run"
            )
        return kept

    def groups(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        prompt_ids: Sequence[Sequence[int]],
        step: int,
        first_place: int = 0,
    ) -> list[Group]:
        """A group of each prompt: its logged replies, or as many as a group has, drawn anew."""
        end_id = turn_end_id(policy)
        groups = []
        for place, (prompt, ids) in enumerate(zip(prompts, prompt_ids, strict=True)):
            random = Random(f"logged/{self.seed}/{step}/{first_place + place}")
            some = random.sample(self.replies[prompt.prompt_id], self.count)
            turns = [self._turn(policy, text, cut, end_id) for text, cut in some]
            rows = tuple(Trajectory(prompt, tuple(ids), (turn,)) for turn in turns)
            groups.append(Group(prompt, rows))
        return groups

    def _turn(self, policy: Policy, text: str, cut_off: bool, end_id: int) -> Turn:
        said: Any = policy.encode_text(harmless_text(policy.tokenizer, text, "assistant"))
        ids = tuple(said) if cut_off else (*said, end_id)
        ids = (ids or (end_id,))[: self.longest]
        unknown = (math.nan,) * len(ids)
        return Turn("assistant", text, ids, unknown, "length" if cut_off else "eos")


def logged_only(recipe: Recipe, prompts: list[Prompt]) -> list[Prompt]:
    """The prompts that a run can draw: all, or those with logged replies."""
    logged = LoggedReplies.of(recipe)
    return prompts if logged is None else logged.known(prompts)
