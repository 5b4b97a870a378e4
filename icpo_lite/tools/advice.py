"""Training-free GRPO: contrasts of a group become advice in the system prompt (arXiv 2510.08191).

No weight changes. A step samples groups under the advice so far, judges and rewards them as
training would, and has a model say in a sentence what the best reply of a group did and its worst
did not. Where that makes more lines than are kept, the model writes the list anew. Any `Generator`
will do: the recipe's own model, or one behind a server.

The paper sums up every reply before it compares, and lets the model add, change and delete lines
one by one; here it compares two replies, and rewrites the whole list when it is full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.types import (
    Generator,
    Group,
    Intent,
    Judge,
    Message,
    Prompt,
    RewardChange,
    RewardRule,
    TrainerState,
    Trajectory,
    Turn,
)
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.rollout.groups import judge_groups, reward_groups

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe

#: Opens the advice in a system prompt; also tells a file of `advise` from others.
HEAD = "Advice from earlier tries:"
#: Words of a line of advice at most; the paper asks for 32.
MOST_WORDS = 40
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\d+[.)])\s*")
_WANTED = {
    Intent.COMPLETE: "This task has all that is needed: the right reply solves it.",
    Intent.UNDERSPECIFIED: (
        "This task lacks something that its answer depends on: the right reply asks the user for "
        "it."
    ),
}


@dataclass(frozen=True)
class AdviceStep:
    """What a step came to. reward: mean over all replies. contrasts: groups that told something."""

    step: int
    reward: float
    contrasts: int
    advice: tuple[str, ...]


def system_text(words: str | None, advice: Sequence[str]) -> str | None:
    """A system prompt with its advice; None where there is neither."""
    lines = [f"{number}. {line}" for number, line in enumerate(advice, start=1)]
    said = "\n".join((HEAD, *lines)) if lines else None
    return "\n\n".join(filter(None, (words, said))) or None


class Adviser:
    """Gathers advice over steps; keeps all of it in `advice`.

    recipe: says how groups are sampled. generator: answers the prompts, and compares its own
    replies. most: lines of advice at most. words: of the system prompt that the advice joins.
    opened: a prompt behind a system turn of these words.
    """

    def __init__(
        self,
        recipe: Recipe,
        generator: Generator,
        pool: PromptPool,
        judge: Judge,
        rule: RewardRule,
        change: RewardChange | None,
        *,
        most: int,
        words: str | None,
        opened: Callable[[Prompt, str | None], Prompt],
    ) -> None:
        self.recipe, self.generator, self.pool, self.most = recipe, generator, pool, most
        self.judge, self.rule, self.change = judge, rule, change
        self.words, self.opened = words, opened
        self.advice: tuple[str, ...] = ()

    def steps(self, count: int) -> Iterator[AdviceStep]:
        """So many steps, what each came to."""
        for step in range(count):
            recipe = self.recipe
            prompts = self.pool.draw(recipe.prompts_per_step, recipe.share_underspecified)
            groups = self.sampled(prompts, step, TrainerState(step, count))
            spread = recipe.min_reward_spread
            told = [g for g in groups if max(g.rewards) - min(g.rewards) > spread]
            self.advice = self._kept((*self.advice, *self._compared(told, step)), step)
            yield AdviceStep(step + 1, mean_reward(groups), len(told), self.advice)

    def sampled(
        self, prompts: Sequence[Prompt], step: int, progress: TrainerState | None = None
    ) -> list[Group]:
        """A judged and rewarded group of each prompt, under the advice as it is."""
        recipe, system = self.recipe, system_text(self.words, self.advice)
        asked = [self.opened(prompt, system) for prompt in prompts]
        replies = self.generator.generate(
            [prompt.messages for prompt in asked],
            n=recipe.num_generations,
            max_new_tokens=recipe.max_completion_length,
            temperature=recipe.temperature,
            seed=recipe.seed * 1_000_003 + step,
        )
        groups = [
            Group(prompt, tuple(_said(prompt, text) for text in texts))
            for prompt, texts in zip(asked, replies, strict=True)
        ]
        return reward_groups(judge_groups(groups, self.judge), self.rule, self.change, progress)

    def _compared(self, groups: Sequence[Group], step: int) -> list[str]:
        """A line of advice of each group, those left out that say nothing new or give away."""
        if not groups:
            return []
        chats = [_comparison(group) for group in groups]
        texts = self.generator.generate(
            chats, max_new_tokens=96, temperature=0.0, seed=self.recipe.seed + step
        )
        found: list[str] = []
        for group, (text, *_) in zip(groups, texts, strict=True):
            lines = as_lines(text)
            line = lines[0] if lines else ""
            known = {_plain(one) for one in (*self.advice, *found)}
            if line and _plain(line) not in known and not _gives_away(line, group.prompt):
                found.append(line)
        return found

    def _kept(self, lines: tuple[str, ...], step: int) -> tuple[str, ...]:
        """At most `most` lines: written anew by the model, or the newest where it does not."""
        most = self.most
        if len(lines) <= most:
            return lines
        listed = "\n".join(f"{n}. {line}" for n, line in enumerate(lines, start=1))
        chat = (
            Message(
                "user",
                f"Here is advice for an assistant:\n{listed}\n\nWrite it anew as a numbered list "
                f"of at most {most} short lines. Join what says the same, keep what matters most, "
                "and add nothing.",
            ),
        )
        ((text,),) = self.generator.generate(
            [chat], max_new_tokens=64 * most, temperature=0.0, seed=self.recipe.seed + step
        )
        merged = tuple(dict.fromkeys(as_lines(text)))
        return merged[:most] if len(merged) > 1 else lines[-most:]


def mean_reward(groups: Sequence[Group]) -> float:
    """Over all replies of all groups."""
    rewards = [reward for group in groups for reward in group.rewards]
    return sum(rewards) / max(len(rewards), 1)


def as_lines(text: str) -> list[str]:
    """The lines of advice that a model wrote, without numbers and bullets; long ones are left
    out, and so is a heading."""
    lines = [_ITEM.sub("", line).strip().strip('"') for line in text.splitlines()]
    return [s for s in lines if 2 < len(s.split()) <= MOST_WORDS and not s.endswith(":")]


def _comparison(group: Group) -> tuple[Message, ...]:
    best = max(group.trajectories, key=_worth).reply.content
    worst = min(group.trajectories, key=_worth).reply.content
    return (
        Message(
            "user",
            "Two replies of an assistant to one task, the first better than the second.\n\n"
            f"Task:\n{group.prompt.text}\n\n{_WANTED[group.prompt.intent]}\n\n"
            f"Better reply:\n<<<\n{best}\n>>>\n\nWorse reply:\n<<<\n{worst}\n>>>\n\n"
            "In one sentence of at most 32 words, give the assistant general advice for other "
            "tasks of this kind: what to do as the better reply does, what to leave. Name no "
            "person, object or number of this task. Write the sentence alone.",
        ),
    )


def _worth(trajectory: Trajectory) -> float:
    return trajectory.reward.total if trajectory.reward else 0.0


def _said(prompt: Prompt, text: str) -> Trajectory:
    return Trajectory(prompt, (), (Turn("assistant", text, stop_reason="eos"),))


def _plain(line: str) -> str:
    return " ".join(re.findall(r"\w+", line.lower()))


def _gives_away(line: str, prompt: Prompt) -> bool:
    """Whether a line names a number of the task or its answer: no advice for another one."""
    numbers = set(re.findall(r"\d+", f"{prompt.text} {prompt.answer}"))
    return bool(numbers & set(re.findall(r"\d+", line)))
