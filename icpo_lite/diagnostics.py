"""What a run's figures mean, in plain words, each with the recipe key to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

#: Steps that are looked at together: one step's figures jump about.
WINDOW = 10


def tokenizer_warning(prompt_ids: Mapping[str, Sequence[int]], unknown_id: int | None) -> str:
    """A line when the tokenizer does not know much of the corpus, "" when it does."""
    if unknown_id is None:
        return ""
    total = sum(map(len, prompt_ids.values()))
    share = sum(ids.count(unknown_id) for ids in map(tuple, prompt_ids.values())) / max(total, 1)
    if share < 0.02:
        return ""
    return (
        f"{share:.0%} of the prompts' tokens are unknown to this model's tokenizer; it cannot "
        "read them: use another model_name_or_path for this data"
    )


def diagnose(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """What the last steps' metrics say, most important first; empty when nothing stands out."""
    recent = rows[-WINDOW:]

    def mean(name: str) -> float | None:
        values = [row[name] for row in recent if name in row]
        return fmean(values) if values else None

    said = []
    accuracy, asks, over = mean("accuracy"), mean("clarification_rate"), mean("over_asking_rate")
    flat, cut = mean("frac_reward_zero_std"), mean("completions/clipped_ratio")
    if cut is not None and cut > 0.3:
        said.append(
            f"{cut:.0%} of the responses were cut off and earn nothing: raise max_completion_length"
        )
    if accuracy is not None and accuracy < 0.02:
        said.append(
            f"right answers are at {accuracy:.0%}: this model cannot solve these problems, so "
            "there is nothing to learn from them; use easier problems or another "
            "model_name_or_path"
        )
    if over is not None and over > 0.2:
        said.append(
            f"it asks on {over:.0%} of the complete prompts: lower share_underspecified or raise "
            "the cost in reward.over_asking"
        )
    if asks is not None and asks < 0.02:
        said.append(
            "it never asks, so that no question can be rewarded: raise num_generations or "
            "temperature, or start from a model that asks now and then"
        )
    if flat is not None and flat > 0.8:
        said.append(
            f"in {flat:.0%} of the groups all rewards are equal and the loss reads 0 there: no "
            "fault, but nothing is learned; raise num_generations or take harder prompts"
        )
    return said
