"""Weights of the cues in `features.CUES`, rounded: a table that can be added up by hand.

The first column tells an answer attempt (sum above 0) from everything else, the other five tell
the kinds of non-answer apart (the highest sum wins). Fitted by regularised logistic regression on
labelled turns of eight models; tests/rewards/test_rewards_response_type.py measures it, and fits
the cues anew without the models that it scores, where that file is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from icpo_lite.core.types import ResponseType

COLUMNS = (
    ResponseType.ANSWER_ATTEMPT,
    ResponseType.CLARIFICATION,
    ResponseType.INTERROGATION,
    ResponseType.DISCUSSION,
    ResponseType.HEDGING,
    ResponseType.REFUSAL,
)

BIAS = (-0.45, +0.59, -0.70, +0.36, -1.07, +0.83)
WEIGHTS: dict[str, tuple[float, ...]] = {
    # feature: (answer; clarification, interrogation, discussion, hedging, refusal)
    "request": (-0.81, +0.61, +0.58, -0.55, -0.34, -0.29),
    "request@head": (-0.24, +0.09, +0.45, -0.25, -0.22, -0.07),
    "request@tail": (-0.87, +0.20, +0.01, +0.20, -0.38, -0.02),
    "offer": (-0.56, +0.07, +0.61, -0.32, -0.21, -0.15),
    "offer@head": (-0.14, -0.07, +0.29, +0.06, -0.10, -0.18),
    "offer@tail": (-0.71, +0.44, +0.46, -0.36, -0.28, -0.25),
    "need": (-0.94, +0.12, +0.02, +0.03, -0.06, -0.11),
    "need@head": (-0.20, +0.24, -0.05, -0.40, +0.21, -0.00),
    "need@tail": (+0.01, +0.46, -0.22, -0.35, -0.09, +0.19),
    "lack": (-1.04, -0.47, -0.23, -0.25, +0.28, +0.68),
    "lack@head": (+0.21, -0.26, -0.23, -0.25, -0.20, +0.94),
    "lack@tail": (-0.29, -0.03, -0.64, -0.06, +0.50, +0.22),
    "exact": (-0.80, -0.30, -0.31, +0.52, -0.02, +0.11),
    "exact@head": (+0.03, -0.21, -0.17, +0.30, +0.25, -0.17),
    "exact@tail": (-0.12, -0.63, +0.05, +0.10, +0.49, -0.02),
    "suppose": (-0.61, +0.00, -0.10, +0.16, +0.36, -0.43),
    "suppose@head": (-0.03, +0.15, -0.26, -0.34, +0.35, +0.10),
    "suppose@tail": (+0.19, +0.07, -0.01, -0.70, +0.61, +0.02),
    "would": (-0.10, -0.03, -0.03, +0.07, -0.06, +0.05),
    "would@head": (-0.48, -0.25, -0.34, +0.04, +0.32, +0.23),
    "would@tail": (+0.23, -0.01, -0.03, +0.30, -0.08, -0.18),
    "symbolic": (-0.59, -0.23, -0.00, +0.36, +0.00, -0.13),
    "symbolic@head": (-0.02, -0.00, -0.02, +0.39, -0.15, -0.22),
    "symbolic@tail": (-0.51, +0.01, -0.41, -0.27, +0.47, +0.21),
    "method": (-0.12, -0.23, +0.02, +0.21, -0.06, +0.05),
    "method@head": (-0.32, -0.19, -0.01, +0.28, +0.01, -0.08),
    "method@tail": (+0.31, -0.27, +0.43, +0.14, -0.24, -0.07),
    "apology": (-0.24, -0.18, -0.13, +0.14, -0.08, +0.25),
    "apology@head": (-0.07, -0.56, -0.12, +0.12, +0.12, +0.44),
    "apology@tail": (-0.13, -0.26, -0.06, -0.26, -0.00, +0.59),
    "conclude": (+0.38, +0.15, -0.26, -0.13, +0.02, +0.22),
    "conclude@head": (+0.29, -0.09, +0.09, -0.01, -0.05, +0.06),
    "conclude@tail": (+0.51, -0.03, -0.51, +0.19, +0.21, +0.15),
    "update": (+0.05, +0.07, +0.11, -0.06, -0.02, -0.09),
    "update@head": (+0.68, +0.90, -0.29, +0.19, +0.17, -0.97),
    "update@tail": (-0.04, +0.25, +0.05, +0.14, -0.18, -0.26),
    "work": (+0.16, +0.06, -0.26, +0.27, -0.05, -0.01),
    "work@head": (+0.04, -0.19, -0.29, +0.11, +0.45, -0.09),
    "work@tail": (+0.17, -0.30, +0.17, -0.02, +0.07, +0.08),
    "partial": (+0.24, -0.25, +0.08, +0.36, -0.18, -0.02),
    "partial@head": (-0.18, +0.07, +0.07, +0.11, +0.00, -0.26),
    "partial@tail": (-0.75, -0.14, -0.39, +0.37, +0.11, +0.06),
    "courtesy": (+0.03, -0.08, -0.00, +0.12, -0.02, -0.02),
    "courtesy@head": (-0.01, -0.04, -0.08, +0.14, -0.00, -0.01),
    "courtesy@tail": (+0.41, -0.19, -0.08, +0.25, -0.05, +0.07),
    "you": (-0.10, -0.21, -0.09, +0.51, -0.22, +0.02),
    "you@head": (+0.22, +0.27, -0.04, +0.12, -0.02, -0.33),
    "you@tail": (-0.34, -0.01, +0.23, +0.06, -0.21, -0.07),
    "i": (-0.24, +0.31, +0.06, -0.13, -0.20, -0.05),
    "i@head": (-0.32, -0.44, +0.29, -0.36, +0.01, +0.51),
    "i@tail": (-0.14, +0.20, -0.03, +0.02, -0.06, -0.13),
    "wonder": (-0.60, -0.01, +0.01, +0.60, -0.26, -0.34),
    "wonder@head": (-0.28, +0.08, -0.06, +0.17, -0.30, +0.12),
    "wonder@tail": (-0.31, +0.02, +0.08, -0.07, -0.20, +0.17),
    "provide": (-0.52, -0.13, -0.27, +0.09, -0.04, +0.36),
    "provide@head": (-0.37, +0.22, -0.36, +0.43, -0.01, -0.28),
    "provide@tail": (+0.03, +0.12, -0.27, +0.08, -0.13, +0.20),
    "find out": (-0.76, -0.08, -0.29, +0.32, -0.10, +0.16),
    "find out@head": (-0.55, -0.41, -0.12, +0.02, +0.02, +0.49),
    "find out@tail": (-0.78, -0.15, -0.14, -0.23, -0.21, +0.74),
    "will": (+0.31, -0.06, +0.30, +0.11, -0.07, -0.28),
    "will@head": (+0.26, -0.03, +0.05, +0.21, +0.18, -0.41),
    "will@tail": (+0.35, +0.02, -0.12, -0.01, +0.04, +0.07),
    "if": (-0.39, -0.22, +0.24, +0.33, -0.07, -0.28),
    "if@head": (-0.26, -0.34, -0.17, +0.51, -0.07, +0.06),
    "if@tail": (+0.02, +0.02, +0.03, +0.65, -0.25, -0.46),
    "details": (-0.11, -0.21, -0.15, +0.22, +0.11, +0.03),
    "details@head": (-0.27, -0.45, +0.34, +0.05, -0.33, +0.39),
    "details@tail": (-0.20, -0.41, +0.30, +0.20, +0.20, -0.29),
    "such as": (-0.12, -0.31, +0.32, -0.02, +0.11, -0.10),
    "such as@head": (-0.08, +0.00, -0.17, +0.06, +0.14, -0.04),
    "such as@tail": (+0.68, -0.05, -0.17, +0.04, +0.08, +0.11),
    "thanks": (+0.05, +0.07, +0.09, -0.18, -0.10, +0.11),
    "thanks@head": (+0.03, +0.02, +0.32, +0.07, -0.36, -0.06),
    "thanks@tail": (+0.00, +0.01, -0.05, +0.30, -0.01, -0.25),
    "invent": (-0.42, -0.07, -0.22, +0.13, +0.35, -0.20),
    "invent@head": (+0.30, +0.12, -0.12, +0.05, +0.09, -0.14),
    "invent@tail": (-0.61, -0.14, -0.09, -0.13, +0.16, +0.19),
    "sum": (+0.29, -0.12, +0.02, +0.18, +0.01, -0.09),
    "sum@head": (+0.15, -0.10, +0.01, +0.22, -0.05, -0.08),
    "sum@tail": (-0.18, -0.07, -0.12, +0.05, +0.24, -0.10),
    "needed": (+0.55, +0.14, -0.11, +0.20, -0.02, -0.22),
    "needed@head": (+0.40, +0.18, -0.05, +0.24, -0.17, -0.20),
    "needed@tail": (+0.27, +0.52, -0.14, +0.01, -0.26, -0.14),
    "question": (-0.42, -0.18, +0.76, +0.00, -0.23, -0.34),
    "question@tail": (-0.37, +0.41, +0.59, -0.18, -0.21, -0.61),
    "boxed number": (+0.48, -0.09, -0.10, +0.18, +0.11, -0.10),
    "boxed words": (+0.05, -0.02, -0.01, +0.01, +0.20, -0.18),
    "number@last": (+1.00, -0.32, +0.24, +0.42, -0.31, -0.02),
    "number@tail": (+0.14, +0.40, +0.47, -0.15, +0.09, -0.82),
    "stated@tail": (+0.38, -0.02, -0.01, +0.25, -0.07, -0.16),
    "value": (+0.85, -0.17, -0.53, +0.72, +0.07, -0.09),
    "variable": (-0.40, -0.12, -0.06, +0.34, +0.09, -0.25),
    "words after the conclusion": (-0.21, +0.04, -0.20, -0.13, -0.09, +0.39),
    "conclusion is supposed": (+0.14, +0.17, -0.40, -0.05, +0.31, -0.03),
    "plain conclusion": (+1.01, +0.16, +0.21, +0.13, -0.34, -0.17),
    "numbers supposed": (-0.45, -0.28, +0.03, +0.14, -0.15, +0.26),
    "items": (-0.10, -0.66, +0.24, +0.40, +0.22, -0.20),
    "digits": (+0.89, -0.20, -0.05, +0.15, +0.10, +0.01),
    "under 60 words": (+0.22, +0.40, -0.05, -0.41, -0.07, +0.13),
    "under 100 words": (-0.54, +0.36, +0.24, -0.61, -0.25, +0.27),
    "over 200 words": (-0.49, -0.44, -0.26, +0.37, -0.07, +0.40),
    "thinking": (-0.07, -0.02, -0.08, +0.11, -0.03, +0.01),
}  # fmt: skip


def score(kind: ResponseType, features: Mapping[str, float]) -> float:
    """Bias plus weighted features of one column."""
    column = COLUMNS.index(kind)
    return BIAS[column] + sum(w[column] * features[name] for name, w in WEIGHTS.items())


def strongest(kind: ResponseType, features: Mapping[str, float], *, sign: int = 1) -> str:
    """The feature that moved a column's score most in the direction of `sign`."""
    column = COLUMNS.index(kind)
    return max(WEIGHTS, key=lambda name: sign * WEIGHTS[name][column] * features[name])


def best_kind(features: Mapping[str, float]) -> ResponseType:
    """The kind of non-answer with the highest score."""
    return max(COLUMNS[1:], key=lambda kind: score(kind, features))
