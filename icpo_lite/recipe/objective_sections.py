"""Sections of a recipe that say how is learned."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.recipe.distillation_sections import DistillationKeys
from icpo_lite.recipe.section import Section, named_schedule, refuse, scaling

#: Losses that clip the ratio at 1 - epsilon and 1 + epsilon_high; a test holds this to the loss
#: functions themselves.
CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
#: Losses of whole replies beside the others of their group (`training.group_losses`).
GROUP_LOSSES = ("reg_grpo", "refuel", "copg")

LossType = Literal[
    "grpo",
    "bnpo",
    "dr_grpo",
    "dapo",
    "cispo",
    "sapo",
    "luspo",
    "vespo",
    "gmpo",
    "rec",
    "asymre",
    "opmd",
    "a_lol",
    "reg_grpo",
    "refuel",
    "copg",
]


def steps_of(value: float, max_steps: int) -> int:
    """A number of steps that may be written as a share of the run: 0.5 of 60 is 30."""
    return int(value) if value >= 1 else round(value * max_steps)


class LossKeys(DistillationKeys):
    """The objective, in TRL's names where TRL has one; `training.loss` has the equations."""

    loss_type: LossType = Field(
        "dapo",
        description="grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo or vespo: a token's loss, and "
        "how token losses are averaged; gmpo: a reply's geometric mean of ratios; off-policy rec, "
        "asymre, opmd, a_lol; of whole replies in their group reg_grpo, refuel, copg",
    )
    importance_sampling_level: Literal["token", "turn", "sequence"] = Field(
        "token",
        description="whose ratio: each token's, a turn's (SO-GRPO) or a whole sequence's (GSPO)",
    )
    epsilon: float = Field(0.2, gt=0, lt=1, description="the ratio is clipped at 1 - epsilon")
    epsilon_high: float | None = Field(
        0.28,
        gt=0,
        description="… and at 1 + epsilon_high; null is epsilon; under cispo the ratio's cap, "
        "under gmpo both bound its logarithm",
    )
    delta: float | None = Field(
        None, gt=1, description="upper bound of the ratio for negative advantages; null is off"
    )
    beta: float = Field(0.0, ge=0, description="weight of the KL divergence from the base model")
    use_bias_correction_kl: bool = Field(
        False, description="multiply the KL term by the ratio, which corrects its gradient"
    )
    sapo_temperature_pos: float = Field(1.0, gt=0, description="sapo: gate where the advantage > 0")
    sapo_temperature_neg: float = Field(1.05, gt=0, description="sapo: … and where it is not")
    vespo_k_pos: float = Field(2.0, ge=0, description="vespo: exponent where the advantage >= 0")
    vespo_lambda_pos: float = Field(3.0, ge=0, description="vespo: decay where it is >= 0")
    vespo_k_neg: float = Field(3.0, ge=0, description="vespo: exponent where it is below 0")
    vespo_lambda_neg: float = Field(2.0, ge=0, description="vespo: decay where it is below 0")
    rec_clip: Literal["none", "one_side", "two_side", "ring"] = Field(
        "one_side",
        description="rec: tokens whose ratio teaches: all, those that PPO would not clip, those "
        "within the clip range, or these and what lies far beyond it on the side that comes back",
    )
    rec_ring: tuple[float, float] = Field(
        (0.6, 2.0), description="rec_clip: ring: how far below and above 1 that side begins"
    )
    rec_weight: Literal["none", "ratio", "advantage"] = Field(
        "none",
        description="rec: what such a token counts: 1 (none), its ratio (the paper's IS), or e to "
        "the power of its advantage (RED-Weight)",
    )
    off_policy_tau: float = Field(
        0.1, ge=0, description="asymre and opmd: weight of what holds the policy to its data"
    )
    refuel_eta: float = Field(1.0, gt=0, description="refuel: what a difference of rewards counts")
    a_lol_ratio: Literal["sequence", "token", "none", "kl"] = Field(
        "sequence",
        description="a_lol: weight of a reply against the base model: its sequence's ratio, each "
        "token's, none (the paper's reference-free form), or kl (A-LoL KL: none, and beta times "
        "the log-ratio)",
    )
    entropy_coef: float = Field(
        0.0, ge=0, description="weight of the entropy bonus; the start where it is steered"
    )
    entropy_target: float | None = Field(
        None, gt=0, description="entropy in nats a token that entropy_coef is steered to"
    )
    entropy_coef_delta: float = Field(
        0.005, gt=0, description="entropy_target: how far entropy_coef moves a step"
    )
    entropy_coef_min: float = Field(0.0, ge=0, description="entropy_target: lowest entropy_coef")
    entropy_coef_max: float = Field(1.0, gt=0, description="entropy_target: highest entropy_coef")
    clip_cov: float | None = Field(
        None, gt=0, lt=1, description="Clip-Cov: share of tokens left out, 2e-4 in the paper"
    )
    clip_cov_low: float = Field(1.0, description="clip_cov: least covariance of those tokens")
    clip_cov_high: float = Field(5.0, description="clip_cov: … and largest")
    kl_cov: float | None = Field(
        None, gt=0, lt=1, description="KL-Cov: share of tokens held back, 2e-3 in the paper"
    )
    kl_cov_coef: float = Field(1.0, gt=0, description="kl_cov: weight of what holds them back")
    demonstrations: Literal["none", "rl_plus", "hpt"] = Field(
        "none",
        description="the corpus's solution, on underspecified prompts the question for what lacks: "
        "none; rl_plus: it joins the group; hpt: it replaces a group that fails",
    )
    demonstration_exponent: float = Field(
        0.5, ge=0, description="rl_plus: weight of unlikely tokens of a solution"
    )
    hpt_gate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="hpt: a group fails when at most this share of it is right, or asks where "
        "something lacks",
    )

    @property
    def high(self) -> float:
        """The upper clip distance, `epsilon` where none of its own was given."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def selects_tokens(self) -> bool:
        """Whether the loss needs the `selected` tokens of `token_weights.select_tokens`."""
        return self.clip_cov is not None or self.kl_cov is not None

    @property
    def adds_kl(self) -> bool:
        """Whether `beta` weighs a KL term; copg and A-LoL KL have one of their own."""
        own = self.loss_type == "copg" or (self.loss_type == "a_lol" and self.a_lol_ratio == "kl")
        return self.beta > 0 and not own

    @property
    def needs_reference(self) -> bool:
        """Whether the base model's log-probs are read."""
        return self.beta > 0 or (self.loss_type == "a_lol" and self.a_lol_ratio != "none")

    @property
    def moves_without_advantage(self) -> bool:
        """Whether a token with an advantage of 0 has a gradient all the same, a teacher's aside."""
        held = self.off_policy_tau and self.loss_type in ("asymre", "opmd")
        added = self.adds_kl or self.entropy_coef or self.kl_cov is not None
        return bool(added or held)

    @model_validator(mode="after")
    def _loss_agrees(self) -> Self:
        if self.loss_type == "cispo":
            self._check_cispo()
        if self.loss_type in (*GROUP_LOSSES, "a_lol", "gmpo"):
            self._check_whole_replies()
        ring = self.loss_type == "rec" and self.rec_clip == "ring"
        if ring and (self.rec_ring[0] < self.epsilon or self.rec_ring[1] < self.high):
            refuse(
                "rec_ring",
                f"expected at least epsilon {self.epsilon:g} and epsilon_high {self.high:g}, found "
                f"{list(self.rec_ring)}; a ring lies outside the clip range",
            )
        clips = self.loss_type in CLIPPED_LOSSES
        if self.delta is not None and not clips:
            refuse(
                "delta",
                f"expected a loss_type with a clipped ratio ({', '.join(CLIPPED_LOSSES)}); found "
                f"{self.loss_type}, which does not read it",
            )
        if self.delta is not None and self.delta <= 1 + self.high:
            refuse(
                "delta",
                f"expected delta above 1 + epsilon_high = {1 + self.high:g}, found {self.delta:g}; "
                "a smaller one would never let the clip act",
            )
        for low, high in (
            ("clip_cov_low", "clip_cov_high"),
            ("entropy_coef_min", "entropy_coef_max"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least > most:
                refuse(low, f"expected at most {high} {most:g}, found {least:g}")
        if self.clip_cov is not None and self.kl_cov is not None:
            refuse("kl_cov", "expected at most one of clip_cov and kl_cov; found both")
        if self.selects_tokens and not clips:
            refuse(
                "clip_cov" if self.clip_cov is not None else "kl_cov",
                f"expected a loss_type with a clipped ratio ({', '.join(CLIPPED_LOSSES)}); found "
                f"{self.loss_type}",
            )
        return self

    def _check_whole_replies(self) -> None:
        if self.importance_sampling_level != "token":
            refuse(
                "importance_sampling_level",
                f"{self.loss_type} takes whole replies by itself; set it to token",
            )
        if self.loss_type == "copg" and not self.beta:
            refuse("beta", "copg weighs the base model's log-probs by it; set beta: 0.1")
        if self.loss_type == "a_lol" and self.a_lol_ratio == "kl" and not self.beta:
            refuse("beta", "a_lol_ratio: kl weighs the log-ratio by it; set beta: 0.1")
        if self.loss_type in GROUP_LOSSES and self.demonstrations != "none":
            refuse("demonstrations", f"{self.loss_type} compares sampled replies; set it to none")

    def _check_cispo(self) -> None:
        if self.epsilon_high is None or self.epsilon_high <= 1:
            refuse(
                "epsilon_high" if "epsilon_high" in self.model_fields_set else "loss_type",
                f"cispo caps the ratio itself at epsilon_high, which must be above 1, found "
                f"{self.epsilon_high}; set epsilon_high: 5.0",
            )
        if self.importance_sampling_level != "token":
            refuse("importance_sampling_level", "cispo is defined for tokens; set it to token")


class CorrectionKeys(Section):
    """How the difference between sampling and training log-probs is made good."""

    importance_sampling_correction: Literal["auto"] | bool = Field(
        "auto",
        description="weigh tokens by how training and sampling log-probs differ (TIS): true, "
        "false, or auto, where another engine than native samples",
    )
    importance_sampling_mode: Literal[
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ] = Field(
        "token_truncate", description="cut that ratio off, or mask what is outside its bounds"
    )
    importance_sampling_clip_max: float | None = Field(
        3.0, gt=0, description="upper bound of that ratio; null is none"
    )
    importance_sampling_clip_min: float | None = Field(
        None, ge=0, description="lower bound of that ratio; null is none"
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        low, high = self.importance_sampling_clip_min, self.importance_sampling_clip_max
        if low is not None and high is not None and low > high:
            refuse(
                "importance_sampling_clip_min",
                f"expected at most importance_sampling_clip_max {high:g}, found {low:g}",
            )
        return self


class AdvantageKeys(Section):
    """Which replies and tokens are learned from, and how rewards become advantages."""

    scale_rewards: Annotated[Literal["group", "batch", "none"], BeforeValidator(scaling)] = Field(
        "group", description="what divides an advantage: group's std, batch's std, or none"
    )
    mask_truncated_completions: bool = Field(
        False, description="leave cut-off responses out of the loss"
    )
    # On the tiny recipe's dev split, three seeds: FULL 92.1 at 0.25 and at 0, SHARDED 65.4 and
    # 65.5, over-asks 0.4 and 0.6 %. On SmolLM2-135M's (smollm2-135m, 40 steps, one seed): FULL 49.2
    # and 44.2, SHARDED 25.8 and 17.5, over-asks 5.8 and 10.8 %. Groups of up to 16 rewards of 0 and
    # 1 are not touched by it.
    min_reward_std: float = Field(
        0.25,
        ge=0,
        description="scale_rewards: group: the least that a group's std counts as, so that small "
        "differences of reward stay small advantages; 0, as in TRL, makes each group's full size",
    )
    min_reward_spread: float = Field(
        1e-6,
        ge=0,
        description="rewards of a group that differ by no more than this count as equal: its "
        "advantages are 0",
    )
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = Field(
        "sum_then_normalize",
        description="sum_then_normalize; normalize_then_sum: each component of the reward is "
        "scaled in its group before they are added (GDPO)",
    )
    drop_zero_variance: bool = Field(
        True,
        description="compute no gradient of responses whose advantage is 0, where they have none: "
        "faster, the same result",
    )
    count_zero_variance: bool = Field(
        True,
        description="count groups whose rewards are all equal where losses are averaged, as TRL "
        "does; false averages over the others alone: the fewer teach, the larger the gradient "
        "(with beta or an entropy bonus all count)",
    )
    dynamic_sampling: bool = Field(
        False, description="sample further prompts in place of groups whose rewards are all equal"
    )
    max_refills: int = Field(
        3, ge=1, description="dynamic_sampling: times that a step is refilled at most"
    )
    keep_share: bool = Field(
        True, description="dynamic_sampling: refill each kind of prompt by itself, or either"
    )
    soft_punish_cache: int | None = Field(
        None,
        ge=1,
        description="tokens below max_completion_length over which DAPO's length penalty grows to "
        "1; null is none",
    )
    top_entropy_quantile: float = Field(
        1.0, gt=0, le=1, description="train on this share of tokens, those of highest entropy"
    )
    off_policy_mask_threshold: float | None = Field(
        None,
        gt=0,
        description="leave out disliked responses that the policy has moved away from by more "
        "than this, in nats a token",
    )


class WarmUpKeys(Section):
    """What comes before the first step, where a model hardly ever asks (`training.warm_up`)."""

    warm_up_steps: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="most steps of SFT on solutions and questions before the first step; auto: 30 "
        "where the model is found to ask too seldom, else 0 (warmup_steps is the learning rate's)",
    )
    warm_up_until: float = Field(
        0.3,
        gt=0,
        le=1,
        description="warm_up_steps: it ends once the model asks by this share more often on "
        "prompts that lack something than on whole ones",
    )
    warm_up_learning_rate: float = Field(
        1e-4, gt=0, le=100, description="warm_up_steps: learning rate of that SFT"
    )


class ScheduleKeys(Section):
    """What moves over the run: the kinds of prompt and the learning rate."""

    share_schedule: Annotated[dict[str, Any], BeforeValidator(named_schedule)] = Field(
        {"name": "constant"},
        description="how share_underspecified moves: constant, {name: linear, last: 0.2}, or "
        "{name: adaptive, low: 0.1, high: 0.5}, which goes by what was measured",
    )
    underspecified_weight: float = Field(
        1.0, ge=0, description="factor of the advantages of underspecified prompts"
    )
    weight_schedule: Annotated[dict[str, Any], BeforeValidator(named_schedule)] = Field(
        {"name": "constant"}, description="how underspecified_weight moves, as share_schedule"
    )
    prompt_curriculum: Annotated[dict[str, Any], BeforeValidator(named_schedule)] = Field(
        {"name": "none"},
        description="which prompts of a kind are drawn: none (each once before any comes again), "
        "or {name: sec, rate: 0.5, tau: 0.5, fixed_share: true}, a bandit over task, kind "
        "and number of shards that goes where advantages are largest, or {name: eva, variants: 4, "
        "rate: 0.5, tau: 0.1, spread: std}: which facts a problem lacks, by how far rewards "
        "differed then",
    )
    learning_rate: float = Field(
        1e-5,
        gt=0,
        le=100,
        description="peak learning rate; LoRA takes about 10 times full fine-tuning's",
    )
    lr_scheduler_type: Literal["linear", "constant", "cosine"] = Field(
        "linear", description="linear, constant or cosine"
    )
    min_lr_ratio: float = Field(
        0.0, ge=0, le=1, description="where the schedule ends, as a share of learning_rate"
    )
    warmup_steps: int | float = Field(
        0, ge=0, description="steps of linear warm-up; a value below 1 is a share of max_steps"
    )
    max_steps: int = Field(200, ge=1, description="steps of the whole run")
    max_sampled_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens of replies with which the run ends, where max_steps does not end it "
        "before; what moves over the run then goes by them, so that runs whose steps differ in "
        "size can be compared; null counts steps alone",
    )

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            refuse(
                "warmup_steps",
                f"expected a whole number of steps or a share below 1, found {self.warmup_steps:g}",
            )
        if self.warmup_steps >= 1 and self.warmup_steps > self.max_steps:
            refuse(
                "warmup_steps",
                f"warmup_steps {self.warmup_steps:g} is above max_steps {self.max_steps}, so that "
                "learning_rate is never reached; a share such as warmup_steps: 0.05 always fits",
            )
        return self

    @property
    def warmup(self) -> int:
        """Steps of warm-up, `warmup_steps` as a whole number."""
        return steps_of(self.warmup_steps, self.max_steps)


class UpdateKeys(Section):
    """How a batch becomes optimizer steps."""

    per_device_train_batch_size: int | None = Field(
        None,
        ge=1,
        description="completions a forward pass: a memory knob that never changes the result "
        "(but bnpo's, by its definition); null is the whole mini-batch",
    )
    gradient_accumulation_steps: int | None = Field(
        None, ge=1, description="derived from the batch sizes; a value that disagrees is refused"
    )
    share_prompts: Literal["auto"] | bool = Field(
        "auto",
        description="compute a group's prompt once in training: true, false, or auto, where it "
        "is faster",
    )
    num_mini_batches: int = Field(
        1, ge=1, description="optimiser steps that one batch of responses is split into"
    )
    num_iterations: int = Field(1, ge=1, description="passes over one batch of responses")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first decay rate")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's second decay rate")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    max_grad_norm: float = Field(1.0, gt=0, description="the gradient is clipped to this norm")
    max_skipped_updates: int = Field(
        5,
        ge=1,
        description="updates in a row that may be skipped because a log-prob, a loss or a gradient "
        "is NaN or infinite; so many stop the run",
    )
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw_torch", description="adamw_torch, or bitsandbytes' adamw_8bit, paged_adamw_8bit"
    )
