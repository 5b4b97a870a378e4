"""Trajectories as padded tensors; masks come from what was sampled, not from re-tokenised text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from icpo_lite.core.types import Group, Trajectory

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B trajectories, filled up on the right to T tokens.

    input_ids [B, T]; attention_mask [B, T], 1 on real tokens.
    loss_mask [B, T-1]: True where the *next* token was sampled by the policy, so that column t
        speaks of the prediction of input_ids[:, t + 1]. A sampled end-of-turn token is inside,
        padding is not, also when both are the same token.
    sampled_logps [B, T-1]: log-probs at sampling time, 0 elsewhere.
    advantages [B, T-1]: of the sampled tokens, 0 elsewhere; a turn's own (`Turn.advantage`)
        where it has one, else its trajectory's.
    truncated [B]: True where a reply was cut off.
    group [B]: number of the row's group; rows of a group stand together.
    demonstrations [B]: True where the replies are the corpus's own, not sampled.
    """

    input_ids: Tensor
    attention_mask: Tensor
    loss_mask: Tensor
    sampled_logps: Tensor
    advantages: Tensor
    truncated: Tensor
    group: Tensor
    demonstrations: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def rows(self, index: Tensor) -> Batch:
        """Some of the rows, cut to the longest of them."""
        width = int(self.attention_mask[index].sum(-1).max()) if len(index) else 1
        return Batch(
            self.input_ids[index, :width],
            self.attention_mask[index, :width],
            self.loss_mask[index, : width - 1],
            self.sampled_logps[index, : width - 1],
            self.advantages[index, : width - 1],
            self.truncated[index],
            self.group[index],
            self.demonstrations[index],
        )

    def micro_batches(
        self, size: int | None, *, keep_groups: bool = False
    ) -> Iterator[tuple[Tensor, Batch]]:
        """(row numbers, rows) in pieces of at most `size`, longest rows first.

        Longest first, so that a run that does not fit fails at its first piece. keep_groups: rows
        of one group side by side, groups by their longest row, so that few pieces share a prompt.
        """
        import torch

        lengths = self.attention_mask.sum(-1)
        order = torch.argsort(lengths, descending=True, stable=True)
        if keep_groups:
            # Numbered from 0: a part of a batch need not hold its first groups.
            group = self.group.unique(return_inverse=True)[1]
            longest = torch.zeros_like(lengths).scatter_reduce(0, group, lengths, "amax")
            for key in (group, -longest[group]):  # stable sorts, the first key last
                order = order[torch.argsort(key[order], stable=True)]
        for piece in order.split(size or max(len(order), 1)):
            yield piece, self.rows(piece)

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


def collate(groups: Sequence[Group], pad_id: int) -> Batch:
    """All trajectories of the groups, in order, as one batch on the CPU.

    Raises ValueError when a group has no advantages yet.
    """
    import torch

    rows: list[Trajectory] = [t for group in groups for t in group.trajectories]
    whole: list[float] = []
    for group in groups:
        if group.advantages is None:
            raise ValueError(f"group {group.prompt.prompt_id} has no advantages yet")
        whole += group.advantages
    lengths = [len(t.prompt_ids) + sum(len(turn.token_ids) for turn in t.turns) for t in rows]
    width = max(lengths, default=1)
    input_ids = torch.full((len(rows), width), pad_id)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    sampled = torch.zeros(len(rows), width, dtype=torch.bool)
    logps, advantages = torch.zeros(len(rows), width), torch.zeros(len(rows), width)
    for i, (trajectory, length) in enumerate(zip(rows, lengths, strict=True)):
        input_ids[i, : len(trajectory.prompt_ids)] = torch.tensor(trajectory.prompt_ids)
        attention_mask[i, :length] = 1
        at = len(trajectory.prompt_ids)
        for turn in trajectory.turns:
            end = at + len(turn.token_ids)
            input_ids[i, at:end] = torch.tensor(turn.token_ids, dtype=torch.long)
            if turn.role == "assistant":
                sampled[i, at:end] = True
                own = whole[i] if turn.advantage is None else turn.advantage
                advantages[i, at:end] = torch.tensor(own)
                if not trajectory.demonstration:
                    logps[i, at:end] = torch.tensor(turn.logprobs)
            at = end
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        loss_mask=sampled[:, 1:],
        sampled_logps=logps[:, 1:],
        advantages=advantages[:, 1:],
        truncated=torch.tensor([_cut_off(t) for t in rows], dtype=torch.bool),
        group=torch.tensor([i for i, g in enumerate(groups) for _ in g.trajectories]).long(),
        demonstrations=torch.tensor([t.demonstration for t in rows], dtype=torch.bool),
    )


def _cut_off(trajectory: Trajectory) -> bool:
    return any(t.stop_reason == "length" for t in trajectory.turns if t.role == "assistant")


def mini_batches(group_B: Tensor, count: int) -> list[Tensor]:
    """Row numbers of each mini-batch; groups stay whole, and at most one mini-batch a group.

    Groups are dealt out in turn, since a step's complete prompts come before its underspecified
    ones and each mini-batch should hold both.
    """
    import torch

    groups = [torch.nonzero(group_B == g).flatten() for g in group_B.unique().tolist()]
    return [torch.cat(groups[i::count]) for i in range(min(count, len(groups)))]
