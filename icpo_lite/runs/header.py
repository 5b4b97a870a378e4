"""What a run says of itself before its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icpo_lite.policy.load import Policy
from icpo_lite.recipe.section import default_of
from icpo_lite.recipe.sections import ModelKeys, PolicyKeys

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe


def header_facts(
    recipe: Recipe, policy: Policy, corpus: str, measured: dict[str, str]
) -> dict[str, str | list[str]]:
    trainable, total = policy.parameter_counts()
    weights = "4-bit NF4, double quantisation" if policy.keys.load_in_4bit else "not quantised"
    compared = ", ".join(recipe.compare) or "base"
    return {
        "recipe": f"{recipe.path.name} -> {recipe.output_dir}",
        "model": f"{recipe.model_name_or_path}, {weights}",
        "device": f"{policy.device.name}, {str(policy.device.dtype).removeprefix('torch.')}",
        "backend": str(policy.backend),
        "trained": f"{_kind(policy.keys)}, {trainable:,} of {total:,} weights",
        "prompts": corpus,
        "objective": f"{recipe.loss_type}, reward {recipe.reward['name']}, "
        f"{recipe.share_underspecified:.0%} underspecified{_conversations(recipe)}",
        "a step": f"{recipe.prompts_per_step} prompts x {recipe.num_generations} responses, "
        f"{_counted(recipe.num_iterations * recipe.num_mini_batches, 'update')} of "
        f"{_counted(recipe.gradient_accumulation_steps or 1, 'micro-batch')}",
        **measured,
        "compared": f"with base and {compared}" if recipe.compare else "with base",
        "note": list(policy.notes),
    }


def _kind(keys: ModelKeys) -> str:
    """What learns: the kind of LoRA, its rank, what it begins as where that is not nothing."""
    if not isinstance(keys, PolicyKeys):
        return "nothing"
    name = ("rs" if keys.use_rslora else "") + ("DoRA" if keys.use_dora else "LoRA")
    start = keys.adapter_name_or_path or keys.init_lora_weights
    return f"{name} r {keys.lora_r}" + ("" if start is True else f" from {start}")


def _conversations(recipe: Recipe) -> str:
    """How conversations are paid and credited; "" where replies are single."""
    if recipe.rollout == "single_turn":
        return ""
    taught = ""
    if recipe.distill != "none":
        taught = f", {recipe.distill} x {recipe.distill_weight:g} from {recipe.teacher_model_kind}"
    if not recipe.pays:
        return f", conversations{taught}"
    paid, credit = recipe.conversation_reward["name"], recipe.credit
    return f", conversations paid by {paid}, credit by {credit}{taught}"


def _counted(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("h") else "s")
    return f"{number} {noun if number == 1 else plural}"


def idle_clip(recipe: Recipe) -> str:
    """Which keys of the objective cannot act, since a batch serves one update; "" for none.

    The ratio of log-probs is then 1 at every token: nothing is clipped, and a ratio by sequence is
    one by token.
    """
    if recipe.num_iterations * recipe.num_mini_batches > 1:
        return ""
    said = [
        key
        for key in ("epsilon_high", "delta", "importance_sampling_level")
        if getattr(recipe, key) is not None
        and getattr(recipe, key) != default_of(type(recipe), key)
    ]
    if not said:
        return ""
    return (
        f"{' and '.join(said)} cannot act with one update a batch, where the ratio is 1; set "
        "num_mini_batches: 2"
    )
