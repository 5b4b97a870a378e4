"""Self-distillation: a model's own word on a cleaner view of the conversation teaches it.

    loss = distill_weight · mean over taught tokens of w · KL(π(·|x, y_<t) ‖ sg π_T(·|view, y_<t))

A view is what the teacher reads in place of the conversation x before a reply y. MAIGO (arXiv
2605.27186): while the prompt lacks something, the user's turns without the earlier replies; once
all is told, the whole problem. FiC (arXiv 2605.24432): the whole problem once all is told. That a
turn counts as the answer's where the user has told all, and that FiC leaves earlier turns alone,
whose user knows less than a whole problem says, is ours. Nobody judges a reply for it.

A new method is one line in `METHODS`; how a teacher's word becomes a loss is `distillation_loss`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from icpo_lite.core.turns import prompt_after, user_view
from icpo_lite.core.types import Group, Intent, Message, Prompt, Trajectory, Turn
from icpo_lite.policy.adapters import exchanged
from icpo_lite.training.batch import Batch, collate
from icpo_lite.training.distillation_loss import MODES, Taught, prefix_weights, reliability
from icpo_lite.training.without_gradient import without_gradient

if TYPE_CHECKING:
    from icpo_lite.core.oom import Size
    from icpo_lite.policy.load import Policy
    from icpo_lite.policy.logprobs import LogprobOptions
    from icpo_lite.recipe import Recipe

Messages = tuple[Message, ...]
#: What the teacher reads before a reply: (the prompt as it stands, the whole problem).
View = Callable[[Prompt, Messages], Messages]


def _cleaned(prompt: Prompt, whole: Messages) -> Messages:
    """The user's turns so far, none of the assistant's."""
    return user_view(prompt.messages, prompt.opening)


def _whole(prompt: Prompt, whole: Messages) -> Messages:
    return whole


@dataclass(frozen=True)
class Method:
    """Whose view teaches a turn: while something lacks, and once all is told; None for nobody's.

    weighs: whether replies to what lacks something count by `distill_reliability`.
    """

    early: View | None
    answer: View
    weighs: bool = False


METHODS: dict[str, Method] = {
    "maigo": Method(_cleaned, _whole, weighs=True),
    "fic": Method(None, _whole),
}


@dataclass(frozen=True)
class Views:
    """A step's replies as the teacher reads them, a row for each reply that it teaches.

    batch: rows of [view, reply], in the order of the conversations' rows and turns. taught
    [B, T-1]: the tokens of the same replies among those rows. weighed [M]: whether a row counts by
    its reliability.
    """

    batch: Batch
    taught: Tensor
    weighed: Tensor


class Distiller:
    """Makes the views of a step's conversations and holds the teacher's weights.

    pool: the run's prompts, among them the whole problem that belongs to one that lacks something.
    """

    def __init__(self, policy: Policy, recipe: Recipe, pool: Iterable[Prompt]) -> None:
        self.policy, self.recipe = policy, recipe
        self.method = METHODS[recipe.distill]
        self._problems = {
            p.problem_id: user_view(p.messages, p.opening)
            for p in pool
            if p.intent is Intent.COMPLETE
        }
        self.average: dict[str, Tensor] = {}
        if recipe.teacher_model_kind == "ema":
            self.average = {n: p.detach().clone() for n, p in policy.trainable_named()}

    # ------------------------------------------------------------------------------------ views

    def views(self, groups: Sequence[Group]) -> Views:
        """The views of all replies that are taught, beside what `collate` makes of the groups."""
        rows: list[Trajectory] = []
        weighed: list[bool] = []
        spans: list[list[tuple[int, int]]] = []
        seen: dict[Messages, tuple[int, ...]] = {}
        of_group: list[Group] = []
        for group in groups:
            first = len(rows)
            for trajectory in group.trajectories:
                spans.append([])
                for turn, prompt, span in _replies(trajectory):
                    if (view := self._view(prompt)) is None:
                        continue
                    if view not in seen:
                        seen[view] = self.policy.encode_chat(view)
                    if len(seen[view]) + len(turn.token_ids) > self.policy.max_positions:
                        continue
                    rows.append(Trajectory(prompt, seen[view], (turn,)))
                    weighed.append(self.method.weighs and _lacks(prompt))
                    spans[-1].append(span)
            own = tuple(rows[first:])
            of_group.append(Group(group.prompt, own, (0.0,) * len(own)))
        return Views(
            collate(of_group, self.policy.pad_id),
            _mask(groups, spans),
            torch.tensor(weighed).bool(),
        )

    def _view(self, prompt: Prompt) -> Messages | None:
        if not any(m.role == "assistant" for m in prompt.messages[prompt.opening :]):
            # Nothing to clean: what the model itself reads, which holds it to the teacher. The
            # weights as they are would say of it what they say.
            early = self.method.early is None and _lacks(prompt)
            itself = self.recipe.teacher_model_kind == "live"
            return None if early or itself else tuple(prompt.messages)
        if _lacks(prompt):
            return None if self.method.early is None else self.method.early(prompt, ())
        return self.method.answer(prompt, self._whole_problem(prompt))

    def _whole_problem(self, prompt: Prompt) -> Messages:
        """The problem as its complete prompt puts it, else its shards, else all that was said."""
        opening = tuple(prompt.messages[: prompt.opening])
        if (found := self._problems.get(prompt.problem_id)) is not None:
            return (*opening, found[-1])
        if not prompt.shards:
            return user_view(prompt.messages, prompt.opening)
        return (*opening, Message("user", " ".join(s.text for s in prompt.shards)))

    # ---------------------------------------------------------------------------------- teacher

    def taught(self, views: Views, options: LogprobOptions, size: Size) -> Taught:
        """What the teacher says of every taught token. One forward pass over the views."""
        device = self.policy.device.torch_device
        batch, mask = views.batch.to(device), views.taught.to(device)
        keep = MODES[self.recipe.distillation_mode].reads_hidden
        with self._as_teacher():
            told = without_gradient(self.policy, batch, options, size.rows, keep_hidden=keep)
        rows = reliability(
            self.recipe.distill_reliability, told.logps, batch.sampled_logps, batch.loss_mask
        )
        rows = torch.where(views.weighed.to(device), rows, torch.ones_like(rows))
        zeros = torch.zeros(mask.shape, device=device)
        spread = rows[:, None].expand_as(told.logps)
        if self.recipe.distill_prefix:
            spread = spread * prefix_weights(told.logps, batch.sampled_logps, batch.loss_mask)
        return Taught(
            mask,
            zeros.masked_scatter(mask, told.logps[batch.loss_mask]),
            zeros.masked_scatter(mask, spread[batch.loss_mask]),
            told.hidden,
        )

    def _as_teacher(self) -> contextlib.AbstractContextManager[None]:
        """The teacher's weights inside: what training began from, or LoRA's average."""
        if self.recipe.teacher_model_kind == "base":
            return self.policy.reference()
        return exchanged(self.policy.trainable_named(), self.average)

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the average towards the weights, after an update."""
        rate = self.recipe.teacher_update_rate
        for name, parameter in self.policy.trainable_named() if self.average else ():
            self.average[name].lerp_(parameter.detach(), rate)

    def restore(self, average: Mapping[str, Tensor]) -> None:
        """Takes up the average that a checkpoint holds."""
        for name, kept in self.average.items():
            if name in average:
                kept.copy_(average[name])


def _lacks(prompt: Prompt) -> bool:
    return prompt.intent is Intent.UNDERSPECIFIED


def _replies(trajectory: Trajectory) -> Iterator[tuple[Turn, Prompt, tuple[int, int]]]:
    """Each sampled reply, the prompt as it stood, and its columns of a loss mask."""
    at = len(trajectory.prompt_ids)
    for i, turn in enumerate(trajectory.turns):
        end = at + len(turn.token_ids)
        if turn.role == "assistant" and turn.token_ids and not trajectory.demonstration:
            yield turn, prompt_after(trajectory.prompt, trajectory.turns[:i]), (at - 1, end - 1)
        at = end


def _mask(groups: Sequence[Group], spans: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """[B, T-1] as `collate` lays the groups' rows out, True in the spans."""
    rows = [t for group in groups for t in group.trajectories]
    lengths = [len(t.prompt_ids) + sum(len(u.token_ids) for u in t.turns) for t in rows]
    mask = torch.zeros(len(rows), max(lengths, default=1) - 1, dtype=torch.bool)
    for row, own in enumerate(spans):
        for start, end in own:
            mask[row, start:end] = True
    return mask
