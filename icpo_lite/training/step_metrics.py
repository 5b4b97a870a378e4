"""What the samples of a step say, as numbers for metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from icpo_lite.core.types import NON_ANSWERS, QUESTIONS, Group, Intent, Trajectory
from icpo_lite.training.advantages import zero_variance
from icpo_lite.training.demonstrations import sampled_only


def group_metrics(
    groups: Sequence[Group], chosen: Sequence[Group], spread: float
) -> dict[str, float]:
    """What the samples of a step say, in TRL's names where it has one; demonstrations do not count.

    chosen: the groups that are learned from: the fraction of underspecified ones among them is
    share_underspecified_kept.
    spread: of rewards, up to which a group counts as flat (`min_reward_spread`).
    accuracy and over_asking_rate are over replies to complete prompts, clarification_rate and
    non_answer_rate over replies to underspecified ones; a kind that did not occur has no entry.
    """
    groups = sampled_only(groups)
    replies = [t for g in groups for t in g.trajectories]
    rewards = torch.tensor([g.rewards for g in groups], dtype=torch.float64)
    flat = zero_variance(rewards, spread)
    kinds = [g.prompt.intent is Intent.UNDERSPECIFIED for g in groups]
    under = torch.tensor(kinds)
    out = {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(dim=1).mean()) if rewards.shape[1] > 1 else 0.0,
        "frac_reward_zero_std": float(flat.double().mean()),
        "share_underspecified": float(under.double().mean()),
        "completions/mean_length": sum(len(t.reply.token_ids) for t in replies) / len(replies),
        "completions/clipped_ratio": _share(replies, lambda t: t.reply.stop_reason == "length"),
    }
    if chosen:
        kept = sum(g.prompt.intent is Intent.UNDERSPECIFIED for g in chosen)
        out["share_underspecified_kept"] = kept / len(chosen)
    for intent, prefix in ((Intent.COMPLETE, "complete"), (Intent.UNDERSPECIFIED, "under")):
        some = [t for t in replies if t.prompt.intent is intent]
        if not some:
            continue
        of_kind = under == (intent is Intent.UNDERSPECIFIED)
        out[f"frac_reward_zero_std/{prefix}"] = float(flat[of_kind].double().mean())
        out[f"reward/{prefix}"] = sum(t.reward.total for t in some if t.reward) / len(some)
        if intent is Intent.COMPLETE:
            out["accuracy"] = _share(some, lambda t: bool(_verdict(t).correct))
            out["over_asking_rate"] = _share(some, lambda t: _verdict(t).response_type in QUESTIONS)
        else:
            out["clarification_rate"] = _share(
                some, lambda t: _verdict(t).response_type in QUESTIONS
            )
            out["non_answer_rate"] = _share(
                some, lambda t: _verdict(t).response_type in NON_ANSWERS
            )
            out["targeted_rate"] = _share(some, lambda t: bool(_verdict(t).targeted))
    names = {name for t in replies if t.reward for name in t.reward.components}
    for name in sorted(names):
        parts = [t.reward.components.get(name, 0.0) for t in replies if t.reward]
        out[f"rewards/{name}/mean"] = sum(parts) / len(parts)
    return out


def _verdict(trajectory: Trajectory) -> Any:
    return trajectory.reply.verdict


def _share(items: Sequence[Trajectory], holds: Any) -> float:
    return sum(bool(holds(item)) for item in items) / len(items)


def sampled_tokens(groups: Sequence[Group]) -> int:
    """Tokens of all replies."""
    return sum(len(t.reply.token_ids) for g in groups for t in g.trajectories)


def memory_gb(device: torch.device) -> float:
    """Peak memory in GB (10^9 bytes): allocated on the GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
