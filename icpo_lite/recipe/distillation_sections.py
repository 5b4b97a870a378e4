"""The section of a recipe that says how a model teaches itself from a cleaner view."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.recipe.section import Section, named_schedule, refuse


def _mode(value: Any) -> Any:
    """`topk` and `full` are short for TRL's names."""
    return {"topk": "topk_logits", "full": "full_logits"}.get(value, value)


class DistillationKeys(Section):
    """Self-distillation beside the policy loss: loss = policy + distill_weight · KL."""

    distill: Literal["none", "maigo", "fic"] = Field(
        "none",
        description="rollout: conversation: what teaches the model beside its rewards: none; maigo "
        "(its own word on the conversation without its earlier replies, and on the whole problem "
        "once all is told); fic (on the whole problem alone, once all is told)",
    )
    distill_weight: float = Field(1.0, ge=0, description="distill: weight of its loss")
    distill_schedule: Annotated[dict[str, Any], BeforeValidator(named_schedule)] = Field(
        {"name": "constant"}, description="how distill_weight moves, as share_schedule"
    )
    distillation_mode: Annotated[
        Literal["sampled_token", "topk_logits", "full_logits"], BeforeValidator(_mode)
    ] = Field(
        "full_logits",
        description="distill: the KL of each sampled token: sampled_token (its log-probs alone), "
        "topk_logits (topk: the likeliest tokens, all others as one) or full_logits (full: the "
        "whole vocabulary, in chunks)",
    )
    distillation_alpha: float = Field(
        1.0,
        ge=0,
        le=1,
        description="distill: 1 is KL(model, teacher), as in both papers; 0 is KL(teacher, model), "
        "which moves a model that is sure of what its teacher rules out; between, a mixture of "
        "both (generalised Jensen-Shannon)",
    )
    distillation_topk: int = Field(
        100, ge=1, description="distillation_mode: topk_logits: how many of the likeliest tokens"
    )
    teacher_model_kind: Literal["base", "live", "ema"] = Field(
        "base",
        description="distill: whose word is taken: base (what training began from, the adapter "
        "off), live (the weights as they are) or ema (an average of LoRA's weights over the steps)",
    )
    teacher_update_rate: float = Field(
        0.05, gt=0, le=1, description="teacher_model_kind: ema: how far it moves a step"
    )
    distill_reliability: Literal["likelihood", "agreement", "none"] = Field(
        "likelihood",
        description="distill: maigo: how much a reply counts while something lacks (ours): "
        "likelihood (how likely the cleaned view finds it, relative to the model, a token), "
        "agreement (the share of tokens that it finds at least half as likely) or none (all 1)",
    )

    distill_prefix: bool = Field(
        False,
        description="distill: count a token by how likely the teacher finds what the reply has "
        "said before it, so that it is not asked to go on from words it would not have said (ours)",
    )

    @property
    def distills(self) -> bool:
        """Whether anything is learned from a teacher now."""
        return self.distill != "none" and self.distill_weight > 0

    @model_validator(mode="after")
    def _distillation_agrees(self) -> Self:
        still = self.distill_schedule.get("name") == "constant"
        if self.distill != "none" and self.distill_weight == 0 and still:
            refuse(
                "distill_weight",
                f"expected a weight above 0 for distill: {self.distill}, found 0; set it to 1, "
                "or distill: none",
            )
        if self.distillation_mode == "sampled_token" and self.distillation_alpha != 1:
            refuse(
                "distillation_alpha",
                f"sampled_token knows KL(model, teacher) alone: expected 1, found "
                f"{self.distillation_alpha:g}; set distillation_mode: topk or full",
            )
        return self
