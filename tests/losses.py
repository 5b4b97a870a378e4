"""Objectives for tests, short to write."""

from typing import Any

from icpo_lite.recipe.objective_sections import CorrectionKeys, LossKeys


def loss_keys(loss_type: str = "grpo", **keys: Any) -> LossKeys:
    """A loss with one clip distance for both sides, where a test does not give two.

    cispo at sequence level, which TRL computes, is refused in recipes: it is made past the check.
    """
    by_sequence = keys.get("importance_sampling_level") == "sequence" and loss_type == "cispo"
    if by_sequence:
        del keys["importance_sampling_level"]
    made = LossKeys(**{"loss_type": loss_type, "epsilon_high": None, **keys})
    level = {"importance_sampling_level": "sequence"} if by_sequence else {}
    return made.model_copy(update=level)


def correction_keys(mode: str, *, low: float | None = None, high: float | None = 3.0) -> Any:
    """Bounds of the ratio of log-probs, and what happens outside."""
    return CorrectionKeys(
        importance_sampling_mode=mode,
        importance_sampling_clip_min=low,
        importance_sampling_clip_max=high,
    )
