"""Our judge and reward on replies that another trainer has sampled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from icpo_lite.core.types import Group, Prompt, Reward, StopReason, Trajectory, Turn, Verdict
from icpo_lite.data.prompt_file import from_row
from icpo_lite.rewards.from_recipe import (
    bind_judge,
    bind_reward,
    bind_reward_change,
    judge_needs_policy,
)
from icpo_lite.rollout.groups import judge_groups, reward_groups
from icpo_lite.tools.handover.handed_prompts import StoredTokenizer
from icpo_lite.training.step_metrics import group_metrics

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe

#: Figures of a batch that say whether asking is learned, by their names in metrics.jsonl.
RATES = (
    *("accuracy", "over_asking_rate", "clarification_rate", "non_answer_rate", "targeted_rate"),
    "share_underspecified",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to one prompt. token_ids: as sampled, empty where nobody tells them."""

    prompt: Prompt
    text: str
    token_ids: tuple[int, ...] = ()
    stop_reason: StopReason | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a reply is and what it earns."""

    verdict: Verdict
    reward: Reward


@dataclass(frozen=True)
class ReplyRewards:
    """A recipe's judge and reward, made when they are first asked for; one to a process.

    Several processes share nothing but the cache of a judging server, whose files appear whole.
    """

    recipe: Recipe

    @cached_property
    def reader(self) -> StoredTokenizer:
        return StoredTokenizer(self.recipe)

    @cached_property
    def _bound(self) -> tuple[Any, Any, Any]:
        """Judge, reward rule, and what is added to rewards."""
        rule, change = bind_reward(self.recipe), bind_reward_change(self.recipe)
        return bind_judge(self.recipe, self._policy()), rule, change

    def ready(self) -> None:
        """Make all of it now, where threads will share it."""
        assert self._bound
        assert self.reader.end_ids
        assert self.reader.opened_thought is not None

    def _policy(self) -> Policy | None:
        """The frozen base, on this process's own device, for a judge that asks it."""
        if not judge_needs_policy(self.recipe):
            return None
        from icpo_lite.policy.load import load_policy
        from icpo_lite.recipe.sections import ModelKeys

        rank, device = os.environ.get("LOCAL_RANK"), self.recipe.device
        if rank is not None and device in ("auto", "cuda"):
            import torch

            device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
        keys = ModelKeys.of(self.recipe)
        return load_policy(keys.but(device=device, backend="transformers", use_vllm=False))

    def reply(self, row: str, text: str, token_ids: Sequence[int] | None) -> Reply:
        """A reply as our own sampler would have given it.

        row: `handed_prompts.packed`. A reply without an end token that is as long as replies may
        be was cut off.
        """
        prompt, ids = unpacked(row), tuple(token_ids or ())
        stop: StopReason | None = None
        if token_ids is not None:
            whole = bool(ids) and ids[-1] in self.reader.end_ids
            short = len(ids) < self.recipe.max_completion_length
            stop = "eos" if whole or (short and ids) else "length"
        text = text.strip()
        opened = self.reader.opened_thought
        if opened and not text.startswith(opened):
            text = f"{opened}\n{text}"
        return Reply(prompt, text, ids, stop)

    def judged(self, replies: Sequence[Reply]) -> tuple[list[Judged], dict[str, float]]:
        """Each reply's verdict and reward, and the rates of the whole batch."""
        judge, rule, change = self._bound
        groups = [Group(r.prompt, (Trajectory(r.prompt, (), (_turn(r),)),)) for r in replies]
        done = reward_groups(judge_groups(groups, judge), rule, change)
        turns = [group.trajectories[0].reply for group in done]
        figures = group_metrics(done, [], self.recipe.min_reward_spread)
        out = [Judged(_known(t.verdict), _known(t.reward)) for t in turns]
        return out, {name: figures[name] for name in RATES if name in figures}


def _turn(reply: Reply) -> Turn:
    return Turn("assistant", reply.text, reply.token_ids, (), reply.stop_reason)


def _known(value: Any) -> Any:
    assert value is not None, "replies are judged, then rewarded"
    return value


@lru_cache(maxsize=4096)
def unpacked(row: str) -> Prompt:
    """The prompt that `handed_prompts.packed` wrote."""
    prompt = from_row(row, "prompt_row")
    return replace(prompt, source=prompt.source or prompt.prompt_id)
