"""Whether a question asks for a removed fact, by a small linear model, for word problems.

`tools/train_targets.py` fits it on questions that people wrote for prompts of GSM8K; here its
weights are added up. Two sums: one says how well a question fits each statement of a problem,
removed, given or the task itself; the other weighs by how much the removed one fits better than
the rest, how it fits, and how the question asks. What the model has not seen (other tasks, other
languages, problems that lack most of what they need) stays with the rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from icpo_lite.core.errors import ModelError
from icpo_lite.rewards import rule_targets
from icpo_lite.rewards.fact_reading import read_question
from icpo_lite.rewards.target_features import (
    NO_QUANTITY,
    QUESTION,
    STATEMENT,
    Read,
    Statements,
    content,
    is_strange,
    read_features,
)

ASSET = Path(__file__).parents[1] / "assets" / "judge" / "targets.json"
#: Version of the asset's form, and of what `target_features` reads.
FORM = 1
#: Beyond these a difference of fit says nothing more.
_REACH = 8.0
#: What stands for the fit of a given statement where a problem gives none.
_NO_GIVEN = -6.0
WHOLE = (
    "over all others", "fit of the removed", "over the given", "over the task", "first of all",
    *QUESTION,
    *STATEMENT,
    *(f"over the next: {name}" for name in STATEMENT),
)  # fmt: skip
#: What a sum gains where the rules say "removed" as well: they know plain questions better, of
#: which the writers it was fitted on wrote few. Chosen with the threshold, on writers left out.
AGREED = 2.0
#: Removed facts of a prompt that the model has seen at once.
MOST_REMOVED = 2


@dataclass(frozen=True, slots=True)
class TargetModel:
    """Weights of one statement's fit [len(STATEMENT)] and of the whole [len(WHOLE)], and its bias.

    threshold: a sum above it is on target, with `AGREED` where the rules say so too.
    """

    statement: np.ndarray
    whole: np.ndarray
    bias: float
    threshold: float

    def score(self, read: Read, removed: int) -> float:
        """The sum of a question against a problem whose first `removed` statements are lacking."""
        return float(whole_features(read, removed, self.statement) @ self.whole) + self.bias


def whole_features(read: Read, removed: int, statement: np.ndarray) -> np.ndarray:
    """`WHOLE` of a question, float32; statement: the weights of one statement's fit."""
    fits = read.statements @ statement
    lacked, others, given = fits[:removed], fits[removed:], fits[removed:-1]
    best, next_best = int(lacked.argmax()), removed + int(others.argmax())
    level = _sum(lacked)
    over_all = level - _sum(others)
    over_given = level - (float(given.max()) if len(given) else _NO_GIVEN)
    margins = np.clip([over_all, over_given, level - float(fits[-1])], -_REACH, _REACH)
    summary = [margins[0], level, margins[1], margins[2], float(over_all > 0)]
    mine = read.statements[best]
    return np.concatenate(
        [summary, read.question, mine, mine - read.statements[next_best]], dtype=np.float32
    )


def _sum(fits: np.ndarray) -> float:
    """The logarithm of the sum of exponentials."""
    most = float(fits.max())
    return most + float(np.log(np.exp(fits - most).sum()))


def save(model: TargetModel, card: Mapping[str, object], file: Path) -> None:
    """Write the weights by name, rounded, with the card, as JSON."""
    weights = {
        "form": FORM,
        "threshold": round(model.threshold, 4),
        "bias": round(model.bias, 4),
        "statement": _named(STATEMENT, model.statement),
        "whole": _named(WHOLE, model.whole),
    }
    text = json.dumps({**card, **weights}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def _named(names: tuple[str, ...], weights: np.ndarray) -> dict[str, float]:
    return {name: round(float(w), 4) for name, w in zip(names, weights, strict=True)}


def load(file: Path = ASSET) -> TargetModel:
    """The model of a file. Raises ModelError where it holds none, or one of another form."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["form"] != FORM:
            raise ModelError(
                f"{file.name}: expected a judge of targets of form {FORM}, found "
                f"{stored['form']}; train it again with python -m icpo_lite.tools.train_targets"
            )
        return TargetModel(
            np.array([stored["statement"][name] for name in STATEMENT], dtype=np.float32),
            np.array([stored["whole"][name] for name in WHOLE], dtype=np.float32),
            float(stored["bias"]),
            float(stored["threshold"]),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"expected a judge of targets at {file}, found {error}") from error


@lru_cache(maxsize=1)
def shipped() -> TargetModel:
    """The model that comes with the package."""
    return load()


#: Two questions in one: "How many pens are there, and what does one cost?".
_AND_ASKS = re.compile(
    r",?\s+(?:and|plus)\s+(?=(?:how|what|which|by how|at what)\b)|;\s+", re.IGNORECASE
)
#: A question of fewer words of content is read with the reply that it ends.
_FEW, _BEFORE = 2, 400


def pieces(unit: str, reply: str) -> list[str]:
    """The questions that one question is made of; one that says little, with what it ends."""
    if len(content(unit)) < _FEW:
        return [reply[-_BEFORE:]] if len(reply) > len(unit) else [unit]
    return [part for part in _AND_ASKS.split(unit) if content(part)] or [unit]


def score(unit: str, reply: str, prompt_text: str, problem: Statements) -> float:
    """How surely a question asks for a removed fact: the most that one of its pieces does."""
    model, removed = shipped(), len(problem.frame.removed)
    return max(
        model.score(read_features(piece, reply, prompt_text, problem), removed)
        for piece in pieces(unit, reply)
    )


def points_at(unit: str, reply: str, prompt_text: str, problem: Statements) -> str:
    """As `rule_targets.points_at`, "removed" by the model and the rules together.

    What is known for sure stays: see `_surely_misses`.
    """
    by_rules = rule_targets.points_at(unit, problem.frame)
    agreed = AGREED * (by_rules == "removed")
    misses = _surely_misses(unit, reply, problem)
    if not misses and score(unit, reply, prompt_text, problem) + agreed > shipped().threshold:
        return "removed"
    return "elsewhere" if agreed else by_rules


def _surely_misses(unit: str, reply: str, problem: Statements) -> bool:
    """Whether a question can be for no removed fact.

    A colour, a name or a reason is none with a number; who names several facts in full asks for
    none; and "Could you tell me more about this task?" says nothing of the problem.
    """
    asked = read_question(unit, problem.frame)
    if rule_targets.asks_for_everything(asked, problem.frame):
        return True
    if _QUANTITY.search(unit):
        return False
    vague = not asked.quantity.sorts and all(is_strange(p, problem) for p in pieces(unit, reply))
    return vague or NO_QUANTITY.search(unit) is not None


_QUANTITY = re.compile(
    r"\b(?:how|number|count|amount|price|cost|figure|total)\b|\bwhat(?! (?:kind|sort|type|colou?r"
    r"|name|brand|flavou?r|day|month|year))\b",
    re.IGNORECASE,
)
