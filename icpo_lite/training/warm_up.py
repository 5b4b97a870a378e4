"""Before the first step: how often the model asks and solves, and a cure where it hardly asks.

Group sampling rewards what is sampled: where no reply to a prompt that lacks something asks, no
group holds a question to prefer, and asking is never learned. So the model is asked first, and
where it asks hardly more often than on whole prompts, a few steps of SFT show it both kinds of
reply in its own chat template: solutions, and the questions that are missing. They end as soon as
questions come by themselves, so that there is something left to explore.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from icpo_lite.core.types import QUESTIONS, Group, Intent, Prompt, Trajectory
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.recipe.objective_sections import LossKeys
from icpo_lite.rollout.groups import judge_groups, sample_groups
from icpo_lite.training.batch import collate
from icpo_lite.training.demonstrations import (
    demonstration,
    fit_to_follow,
    succeeds,
    turn_end_id,
)
from icpo_lite.training.updater import Updater

if TYPE_CHECKING:
    from icpo_lite.training.trainer import Trainer

#: What a measurement samples: prompts of each kind, replies of each. At a rate of 10 % the
#: standard error of 32 replies is 5 points.
PROMPTS, REPLIES = 8, 4
#: Where it asks by no more than this share more often on what lacks something, little is sampled
#: that could be rewarded: in groups of 8, half hold no question at all.
LITTLE = 0.1
#: Steps of SFT from one measurement to the next, and the most that `auto` makes.
BETWEEN, MOST = 2, 30
#: Steps below 0 are not the run's: their samples share no noise with it.
_BEFORE = -1


@dataclass(frozen=True)
class Habits:
    """Of the replies to some prompts, the share that asks or is right.

    asks: on prompts that lack something; over_asks, solves: on whole ones. None where there is no
    such prompt, or no gold answer.
    """

    asks: float | None
    over_asks: float | None
    solves: float | None

    @property
    def margin(self) -> float:
        """How much more often it asks where something lacks: what group sampling can build on."""
        return (self.asks or 0.0) - (self.over_asks or 0.0)

    def __str__(self) -> str:
        said = []
        if self.asks is not None:
            said.append(f"asks on {self.asks:.0%} of what lacks something")
        if self.over_asks is not None:
            said.append(f"on {self.over_asks:.0%} of what is whole")
        if self.solves is not None:
            said.append(f"solves {self.solves:.0%}")
        return ", ".join(said)


class WarmUp:
    """Measures a trainer's policy on a run's prompts and shows it what it hardly does.

    prompts: all of the run. `record` holds what was measured and made, as JSON.
    """

    def __init__(self, trainer: Trainer, prompts: Sequence[Prompt]) -> None:
        self.trainer, self.recipe = trainer, trainer.recipe
        self.prompts = prompts
        self.record: dict[str, Any] = {}
        # Its own decks: what the run draws does not depend on how long this took.
        self._measured = PromptPool(prompts, seed=self.recipe.seed)
        self._examples = PromptPool(prompts, seed=self.recipe.seed + 1)
        self._right: list[Trajectory] = []

    def run(self) -> Iterator[str]:
        """Measure, and warm up where that is needed; yields a line for the user after each part."""
        found = self.measure(0)
        self.record = {"before": asdict(found), "after": asdict(found), "steps": 0, "loss": []}
        yield f"untrained, it {found}"
        enough = self.recipe.warm_up_until
        if found.asks is None or found.over_asks is None or found.margin > LITTLE:
            return
        most = MOST if self.recipe.warm_up_steps == "auto" else self.recipe.warm_up_steps
        if not most:
            yield _advice(self.recipe.demonstrations)
            return
        if not self.examples(1):
            yield (
                "no question can be shown, since no prompt tells in words what it lacks; "
                "system_prompt: ask permits it to ask"
            )
            return
        yield (
            f"warm-up: it asks too seldom to learn it from its own replies, so that it is shown "
            f"questions and answers until it asks {enough:.0%} more often where something lacks, "
            f"at most {most} steps (warm_up_steps)"
        )
        updater = self._updater()
        for step in range(1, most + 1):
            loss = self._step(updater, step)
            self.record["steps"] = step
            self.record["loss"].append(loss)
            if step % BETWEEN and step < most:
                continue
            found = self.measure(step)
            self.record["after"] = asdict(found)
            yield f"warm-up step {step}: it {found}; loss {loss:.3g}"
            if found.margin >= enough:
                return
        yield (
            f"note: after {most} steps of warm-up it asks {found.margin:.0%} more often where "
            f"something lacks, not {enough:.0%}; the run goes on from there"
        )

    def measure(self, step: int) -> Habits:
        """What the policy does now on prompts of both kinds; each measurement draws new ones."""
        kinds = [PROMPTS if self._measured.count(intent) else 0 for intent in Intent]
        groups = self._sampled(self._measured.draw_kinds(*kinds), step)
        of: dict[Intent, list[Trajectory]] = {
            intent: [t for g in groups if g.prompt.intent is intent for t in g.trajectories]
            for intent in Intent
        }
        whole = of[Intent.COMPLETE]
        self._right = [t for t in whole if succeeds(t)]
        graded = [t for t in whole if t.prompt.answer is not None]
        return Habits(
            _share([_asks(t) for t in of[Intent.UNDERSPECIFIED]]),
            _share([_asks(t) for t in whole]),
            _share([succeeds(t) for t in graded]),
        )

    def examples(self, step: int) -> list[Group]:
        """Demonstrations for one step, as many questions as answers; empty without a question.

        Where a corpus has no solutions, the model's own right replies of the last measurement
        stand for them: without answers beside them, questions would teach to ask always.
        """
        half = max(1, self.recipe.prompts_per_step // 2)
        prompts = self._examples.draw_kinds(half, half)
        end_id = turn_end_id(self.trainer.policy)
        limit = self.recipe.max_completion_length
        ids = self.trainer.prompt_ids
        own = iter(self._right)
        groups = []
        for prompt in prompts:
            shown = demonstration(
                prompt, tuple(ids[prompt.prompt_id]), self.trainer.policy, end_id, limit
            )
            if shown is None and prompt.intent is Intent.COMPLETE:
                right = next(own, None)
                shown = right and replace(right, demonstration=True)
            if shown is not None:
                groups.append(Group(shown.prompt, (shown,)))
        judged = fit_to_follow(judge_groups(groups, self.trainer.judge), rare=False)
        kept = [replace(g, advantages=(1.0,)) for g in judged if g.trajectories]
        asking = [g for g in kept if g.prompt.intent is Intent.UNDERSPECIFIED]
        return kept if asking else []

    def _step(self, updater: Updater, step: int) -> float:
        examples = self.examples(step)
        if not examples:
            return 0.0
        batch = collate(examples, self.trainer.policy.pad_id)
        rate = self.recipe.warm_up_learning_rate
        made = updater.update(batch, LossKeys(demonstrations="hpt"), rate, step)
        return made["loss"]

    def _updater(self) -> Updater:
        """One of its own: moments of SFT's large gradients would slow the run's first steps."""
        plain = {
            "num_iterations": 1,
            "num_mini_batches": 1,
            "mask_truncated_completions": False,
            "top_entropy_quantile": 1.0,
            "token_weights": {"name": "none"},
        }
        before = self.trainer.updater
        return Updater(
            self.trainer.policy,
            self.recipe.model_copy(update=plain),
            before.logprobs,
            before.limit,
            before.say,
        )

    def _sampled(self, prompts: Sequence[Prompt], step: int) -> list[Group]:
        trainer = self.trainer
        groups = sample_groups(
            trainer.policy,
            prompts,
            [trainer.prompt_ids[p.prompt_id] for p in prompts],
            num_generations=REPLIES,
            options=trainer.sampling,
            seed=self.recipe.seed,
            step=_BEFORE - step,
        )
        return judge_groups(groups, trainer.judge)


def _asks(trajectory: Trajectory) -> bool:
    verdict = trajectory.reply.verdict
    return verdict is not None and verdict.response_type in QUESTIONS


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _advice(demonstrations: str) -> str:
    others = "" if demonstrations == "hpt" else ", demonstrations: hpt"
    return (
        "note: that is too seldom for some models to learn it from their own replies, and "
        "warm_up_steps: 0 shows them none; should asks stay low, set warm_up_steps: auto"
        f"{others} or system_prompt: ask"
    )
