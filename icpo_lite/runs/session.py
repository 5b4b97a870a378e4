"""All that a run needs, loaded, cheapest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icpo_lite.core.console import Display
from icpo_lite.core.diagnostics import tokenizer_warning
from icpo_lite.core.errors import RecipeError
from icpo_lite.core.types import Intent, Problem, Prompt
from icpo_lite.data.contamination import seen_line_of
from icpo_lite.data.from_recipe import (
    WORLD,
    corpus_needs_model,
    prompt_pool,
    require_corpus,
    require_kinds,
    training_prompts,
)
from icpo_lite.evaluation.periodic import SmallEvaluation
from icpo_lite.evaluation.problems import evaluation_problems, judges_on_training_rows
from icpo_lite.policy.load import Policy, load_policy, prepare
from icpo_lite.policy.logprobs import check_impl
from icpo_lite.recipe.input_paths import require_model
from icpo_lite.rewards.from_recipe import bind_judge, bind_reward, bind_reward_change
from icpo_lite.rollout.engines.registry import require_engine
from icpo_lite.rollout.from_recipe import recipe_ids, wanted_engine
from icpo_lite.rollout.growing import check_growing
from icpo_lite.runs.header import header_facts, idle_clip
from icpo_lite.runs.trackers import require_trackers
from icpo_lite.training.conversations import Conversations
from icpo_lite.training.from_recipe import later_of, require_methods, tried
from icpo_lite.training.logged_groups import logged_only
from icpo_lite.training.reward_check import check_reward
from icpo_lite.training.trainer import Trainer

if TYPE_CHECKING:
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge


@dataclass(frozen=True)
class Session:
    """What is loaded for one run. prompts: all that it draws from."""

    recipe: Recipe
    policy: Policy
    trainer: Trainer
    judge: Judge
    problems: Sequence[Problem]
    small: SmallEvaluation | None
    prompts: Sequence[Prompt]

    @property
    def graded(self) -> bool:
        """Whether a complete prompt has a gold answer."""
        return any(p.intent is Intent.COMPLETE and p.answer is not None for p in self.prompts)


def _problems_to_judge(recipe: Recipe) -> list[Problem]:
    """The problems that the run ends with; none where it does not judge itself.

    Where a hold-out has none to judge on, the rows that are left may lack more than it: what every
    other command says of such a corpus is said first.
    """
    if not recipe.evaluation.enabled:
        return []
    try:
        return evaluation_problems(recipe)
    except RecipeError:
        if recipe.eval_holdout and not corpus_needs_model(recipe):
            require_kinds(recipe, training_prompts(recipe, None)[0])
        raise


def on_cpu(session: Session) -> bool:
    return session.policy.device.torch_device.type == "cpu"


def prepare_session(recipe: Recipe, display: Display, threads: int) -> Session:
    """Load everything, cheapest first, so that a mistake is found before the model is loaded."""
    require_trackers(recipe.report_to)
    require_engine(wanted_engine(recipe))
    require_model(recipe)
    prepare(recipe)  # before a user's reward functions import transformers, which unsloth patches
    reward, change = bind_reward(recipe), bind_reward_change(recipe)
    prompt_pool(recipe, [])  # refused here, before a model is loaded
    require_methods(recipe)
    if recipe.rollout == "conversation":
        Conversations(recipe)
    problems = _problems_to_judge(recipe)
    small = SmallEvaluation(recipe) if recipe.eval_steps else None
    policy = None
    if corpus_needs_model(recipe):
        require_corpus(recipe)
        policy = load_policy(recipe, threads=threads)
    prompts, corpus = training_prompts(recipe, policy)
    require_kinds(recipe, prompts)  # before the model is loaded for nothing
    policy = policy or load_policy(recipe, threads=threads)
    prompt_ids = recipe_ids(recipe, policy, prompts)
    corpus += _left_out(len(prompts), len(prompt_ids), recipe)
    prompts = logged_only(recipe, [p for p in prompts if p.prompt_id in prompt_ids])
    require_kinds(recipe, prompts)
    judge = bind_judge(recipe, policy)
    tested = check_reward(prompts, judge, reward, change=change) if recipe.pays else None
    if tested is not None:
        tested.require_ok()
    impl, checked = check_impl(policy, max(prompt_ids.values(), key=len))
    chosen, sampled, shared = tried(recipe, policy, prompt_ids, impl)
    pool = prompt_pool(recipe, prompts)
    later = later_of(recipe, policy, prompt_ids)
    trainer = Trainer(
        policy, pool, prompt_ids, judge, reward, recipe, chosen, change, display.message, later
    )
    measured = {"log-probs": checked, "sampling": sampled, "a prompt": shared}
    if recipe.rollout == "conversation":
        measured["conversations"] = check_growing(policy, prompts)
    display.header(header_facts(recipe, policy, corpus, measured))
    unknown = tokenizer_warning(prompt_ids, policy.tokenizer.unk_token_id)
    seen = ""
    if judges_on_training_rows(recipe):
        seen = (
            "the evaluation judges on problems that are trained on; set evaluation.dataset_name "
            "to a file that is not, or eval_holdout: 0.1 to keep a tenth back"
        )
    told = [] if seen else _contamination(recipe, prompts, problems, small)
    idle = idle_clip(recipe) if recipe.pays else ""
    small_warning = small.warning if small else ""
    for warning in filter(
        None, [*(tested.warnings if tested else ()), unknown, seen, small_warning, *told, idle]
    ):
        display.message(f"warning: {warning}")
    return Session(recipe, policy, trainer, judge, problems, small, prompts)


def _contamination(
    recipe: Recipe,
    prompts: Sequence[Prompt],
    table: Sequence[Problem],
    small: SmallEvaluation | None,
) -> list[str]:
    """What is said of judged problems that are trained on too, word for word or almost.

    The built-in world makes all its problems of the same sentences, each split of other names.
    """
    if recipe.dataset_name == WORLD:
        return []
    trained = [(p.problem_id, p.text) for p in prompts if p.intent is Intent.COMPLETE]
    judged = {"the evaluation": table}
    if small is not None and not small.warning:
        judged["eval_steps"] = small.problems
    return [seen_line_of(problems, trained, what) for what, problems in judged.items()]


def _left_out(found: int, kept: int, recipe: Recipe) -> str:
    """What is said of prompts that were too long."""
    if found == kept:
        return ""
    return (
        f"; {found - kept} of {found} prompts left out, which have more tokens than "
        f"max_prompt_length: {recipe.max_prompt_length} or than the model has room for"
    )
