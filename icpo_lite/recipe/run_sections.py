"""Sections of a recipe that say what is kept of a run, and how it is judged."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from icpo_lite.recipe.section import (
    Finding,
    Keys,
    Section,
    SettingName,
    comparisons,
    judged_or_not,
    one_as_list,
    refuse,
    trackers,
)


class Evaluation(Keys):
    """The recipe's `evaluation` block: the table at the end of a run."""

    enabled: bool = Field(True, description="whether `train` ends with the comparison table")
    settings: Annotated[tuple[SettingName, ...], BeforeValidator(one_as_list)] = Field(
        ("full", "concat", "sharded", "clean_history", "underspecified"),
        min_length=1,
        description="any of full, concat, sharded, recap, snowball, clean_history, underspecified, "
        "contradictory",
    )
    problems: int = Field(100, ge=1, description="problems of the split that are judged")
    runs: int = Field(4, ge=1, description="conversations a problem and setting; 8 or more for A90")
    dataset_name: str | None = Field(
        None, description="file or hub data set that is judged; null is the recipe's own"
    )
    split: str = Field("test", description="split of the data set that is judged")
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0 is greedy")
    max_turns: int | None = Field(
        None,
        ge=1,
        description="most assistant turns of a conversation; null leaves it to the setting",
    )


class RunKeys(Section):
    """Where a run is kept and what it prints."""

    output_dir: str = Field(
        "runs/icpo", min_length=1, description="the run directory; by default runs/<recipe's name>"
    )
    save_steps: int = Field(50, ge=1, description="steps between checkpoints")
    save_minutes: float | None = Field(
        15.0,
        gt=0,
        description="minutes without a checkpoint after which one is made; null: never",
    )
    mirror_dir: str | None = Field(
        None,
        min_length=1,
        description="a second directory, such as a mounted Drive: the run is copied to a folder "
        "of its name there after each checkpoint, and brought back where output_dir is gone",
    )
    rehearse: bool | None = Field(
        None,
        description="one step of the longest prompt and full-length responses before the first, to "
        "measure memory and time; it changes no weight; null does it on a GPU",
    )
    save_total_limit: int | None = Field(
        2, ge=1, description="checkpoints that are kept; null is all"
    )
    completions_total_limit: int | None = Field(
        None,
        ge=1,
        description="steps whose sampled replies are kept at a checkpoint, the newest; null is all",
    )
    resume_from_checkpoint: bool | str | None = Field(
        None,
        description="null resumes where a run was interrupted; true insists on it, false refuses "
        "to; or a checkpoint's folder",
    )
    stop_on: Annotated[tuple[Finding, ...], BeforeValidator(one_as_list)] = Field(
        (),
        description="findings that end the run, its work saved: any of always_asks, never_asks, "
        "entropy_collapse, cannot_solve, cut_off, flat_rewards, clipped_tokens, sampler_differs",
    )
    logging_steps: int = Field(1, ge=1, description="steps between lines of progress")
    log_completions_steps: int = Field(
        10, ge=0, description="steps between printed examples; 0 is never"
    )
    report_to: Annotated[
        tuple[Literal["tensorboard", "wandb", "trackio"], ...], BeforeValidator(trackers)
    ] = Field((), description="also log to any of tensorboard, wandb, trackio; empty is none")
    hub_model_id: str | None = Field(
        None, description="hub repository of `icpo-lite export --push`; training uploads nothing"
    )


class PeriodicKeys(Section):
    """Small evaluations while training, and what hangs on them."""

    eval_steps: int | None = Field(
        None, ge=1, description="steps between small evaluations while training; null: none"
    )
    eval_dataset_name: str | None = Field(
        None, description="file or hub data set for them; null is the recipe's own"
    )
    eval_split: str = Field(
        "dev",
        min_length=1,
        description="split for them; not that of `evaluation`, whose table "
        "would then be of problems that chose the best checkpoint",
    )
    eval_problems: int = Field(30, ge=1, description="problems of a small evaluation")
    eval_runs: int = Field(1, ge=1, description="conversations a problem and setting in it")
    eval_settings: Annotated[tuple[SettingName, ...], BeforeValidator(one_as_list)] = Field(
        ("full", "sharded", "underspecified"),
        min_length=1,
        description="settings of a small evaluation, as in evaluation.settings",
    )
    metric_for_best_model: str = Field(
        "P",
        min_length=1,
        description="figure of the small evaluation that says which checkpoint is best and stays: "
        "P (mean over settings), sharded/P, over_asking_rate, ...; those named eval/ in "
        "metrics.jsonl",
    )
    greater_is_better: bool | None = Field(
        None,
        description="null: yes, but for U, turns, lucky, over_asking_rate and non_answer_rate",
    )
    load_best_model_at_end: bool = Field(
        False, description="end with the best checkpoint's weights instead of the last step's"
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="small evaluations without a new best that end the run; null: never"
    )

    @model_validator(mode="after")
    def _goes_by_small_evaluations(self) -> Self:
        for key in ("load_best_model_at_end", "early_stopping_patience"):
            if self.eval_steps is None and getattr(self, key):
                refuse(key, f"{key} goes by small evaluations; set eval_steps: 20 or so")
        return self


class JudgingKeys(Section):
    """The table at the end of a run."""

    compare: Annotated[dict[str, str], BeforeValidator(comparisons)] = Field(
        default_factory=dict,
        description="runs trained beside this one: {rlvr: other.yaml}; [rlvr], or {rlvr: twin}, is "
        "this recipe without underspecified prompts; none, or null, is no such run",
    )
    evaluation: Annotated[Evaluation, BeforeValidator(judged_or_not)] = Field(
        default_factory=Evaluation,
        description="the table at the end of the run; false, or none, leaves it out",
    )
