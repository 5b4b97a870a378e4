"""What a run's figures mean, in plain words, each with the recipe key to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
        "read them; name another model_name_or_path for this data"
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that stands out. name: what `stop_on` calls it; text: with the key to change."""

    name: str
    text: str


Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Rule:
    """name: of its finding. metric: what is averaged over the last steps, and stands in `text`.

    holds: (mean, all rows) -> whether it stands out. at_once: also before WINDOW steps.
    """

    name: str
    metric: str
    holds: Callable[[float, Rows], bool]
    text: str
    at_once: bool = True


class Watch:
    """Says each finding once, when it first shows. paid: whether replies earn anything."""

    def __init__(self, *, paid: bool = True) -> None:
        self._said: set[str] = set() if paid else {"flat_rewards", "never_asks", "loss_reads_zero"}

    def new(self, rows: Rows) -> list[Finding]:
        """What stands out now and has not been said before. rows: all steps so far."""
        found = [f for f in diagnose(rows) if f.name not in self._said]
        self._said |= {f.name for f in found}
        return found


def diagnose(rows: Rows) -> list[Finding]:
    """What the last steps' metrics say, most important first; empty when nothing stands out."""
    # One or two steps' figures are noise, and a model that never asks at first may learn to.
    patient = len(rows) >= WINDOW
    found = []
    for rule in RULES:
        value = _mean(rows[-WINDOW:], rule.metric)
        if value is not None and (patient or rule.at_once) and rule.holds(value, rows):
            found.append(Finding(rule.name, rule.text.format(value)))
    return found


def _mean(rows: Rows, name: str) -> float | None:
    # metrics.jsonl holds null for what was no finite number.
    values = [row[name] for row in rows if row.get(name) is not None]
    return fmean(values) if values else None


def _above(limit: float) -> Callable[[float, Rows], bool]:
    return lambda value, rows: value > limit


def _below(limit: float) -> Callable[[float, Rows], bool]:
    return lambda value, rows: value < limit


def _collapsed(entropy: float, rows: Rows) -> bool:
    """A tenth of what the run began with, and nearly nothing in itself."""
    first = _mean(rows[:WINDOW], "entropy")
    return first is not None and entropy < 0.1 * first and entropy < 0.05


def _reads_zero(loss: float, rows: Rows) -> bool:
    """At a ratio near 1 a group's advantages cancel, whatever is learned."""
    return abs(loss) < 1e-3 and bool(_mean(rows[-WINDOW:], "grad_norm"))


RULES: tuple[Rule, ...] = (
    Rule(
        "cut_off",
        "completions/clipped_ratio",
        _above(0.3),
        "{:.0%} of the responses were cut off and earn nothing: raise max_completion_length",
    ),
    Rule(
        "cannot_solve",
        "accuracy",
        _below(0.02),
        "right answers are at {:.0%}: this model cannot solve these problems, so there is nothing "
        "to learn from them; use easier problems or another model_name_or_path",
    ),
    Rule(
        "always_asks",
        "over_asking_rate",
        _above(0.2),
        "it asks on {:.0%} of the complete prompts: lower share_underspecified or raise the cost "
        "in reward.over_asking",
    ),
    Rule(
        "never_asks",
        "clarification_rate",
        _below(0.02),
        "it asks on {:.0%} of the underspecified prompts, so that no question can be rewarded: "
        "raise num_generations or temperature, or start from a model that asks now and then",
        at_once=False,
    ),
    Rule(
        "flat_rewards",
        "frac_reward_zero_std",
        _above(0.8),
        "in {:.0%} of the groups all rewards are equal and the loss reads 0 there: no fault, but "
        "nothing is learned; set dynamic_sampling: true, raise num_generations, or take prompts "
        "that are neither too hard nor too easy",
    ),
    Rule(
        "entropy_collapse",
        "entropy",
        _collapsed,
        "the entropy is down to {:.3f} nats a token, a tenth of where it began: all responses to "
        "a prompt become one; set entropy_target or a higher epsilon_high, or lower learning_rate",
        at_once=False,
    ),
    Rule(
        "clipped_tokens",
        "clip_ratio/region_mean",
        _above(0.3),
        "{:.0%} of the tokens were clipped: the policy leaves its own samples behind within one "
        "batch; lower learning_rate, num_iterations or num_mini_batches",
    ),
    Rule(
        "sampler_differs",
        "sampling/sampling_logp_difference/mean",
        _above(0.1),
        "sampling and training disagree by {:.2f} nats a token: set top_p: 1.0 and top_k: 0",
    ),
    Rule(
        "loss_reads_zero",
        "loss",
        _reads_zero,
        "the loss reads about 0, which is no fault: the advantages of a group cancel in the sum, "
        "not in the gradient; watch reward, accuracy and clarification_rate instead",
        at_once=False,
    ),
)
