"""The prompts that a recipe says to train on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from icpo_lite.core.errors import DataError, RecipeError
from icpo_lite.core.files import read_json, write_atomically
from icpo_lite.core.paths import user_cache
from icpo_lite.core.turns import with_opening
from icpo_lite.core.types import (
    Generator,
    Intent,
    Prompt,
    TaskName,
)
from icpo_lite.data.holdout import trained_part
from icpo_lite.data.mixture import members, named, weights
from icpo_lite.data.named_data import require_data
from icpo_lite.data.prompt_bandit import BanditPool, SecOptions
from icpo_lite.data.prompt_pool import PromptPool
from icpo_lite.data.spread_pool import EvaOptions, SpreadPool, with_variants
from icpo_lite.data.system_prompts import opening_turn

if TYPE_CHECKING:
    from icpo_lite.data.augment import AugmentOptions
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe


WORLD = "builtin:world"


#: Problems drawn from the built-in world for training: more than the tiny recipe's steps take.
WORLD_PROBLEMS = 2048


def corpus_needs_model(recipe: Recipe) -> bool:
    """Whether making the prompts takes the policy itself (`method: self`, `verify`)."""
    options = _augment_options(recipe)
    if recipe.dataset_name == WORLD or _by_server(options):
        return False
    return options.method == "self" or options.verify > 0


def _by_server(options: AugmentOptions) -> bool:
    """Whether a server shards, or tries the pairs that rules make."""
    return options.method == "endpoint" or (options.verify > 0 and options.endpoint is not None)


def training_prompts(recipe: Recipe, policy: Policy | None = None) -> tuple[list[Prompt], str]:
    """The prompts to train on, and one line that says what they are.

    A raw corpus is augmented once and cached by its content and the options; a file that holds
    prompts already (`icpo-lite augment`) is read as it is, and so are rows with labels of what
    lacks. Several data sets are read one by one; what `eval_holdout` keeps back is left out.
    Raises DataError when the corpus cannot be read or holds none.
    """
    prompts: list[Prompt] = []
    told: list[str] = []
    for member in members(recipe):
        found, described = _prompts_of(member.recipe, policy)
        prompts += named(member, found)
        weight = f" at weight {member.weight:g}" if member.name else ""
        told.append(f"{described}{weight}")
    if not prompts:
        raise DataError(
            f"{recipe.where('eval_holdout')}: eval_holdout: {recipe.eval_holdout} keeps all "
            "problems back, and none is left to train on; lower it"
        )
    kept_back = f", {recipe.eval_holdout:.0%} kept back" if recipe.eval_holdout else ""
    return prompts, "; ".join(told) + kept_back


def _prompts_of(recipe: Recipe, policy: Policy | None) -> tuple[list[Prompt], str]:
    """The prompts of a recipe's only data set, and what they are."""
    from icpo_lite.data.augment import world_augmentation
    from icpo_lite.data.labelled_rows import holds_labels
    from icpo_lite.data.prompt_file import holds_prompts, read_prompts
    from icpo_lite.data.tiny_world import world_problems

    source, part = recipe.dataset_name, trained_part(recipe)
    left_out = Counter[str]()
    require_data(recipe, "dataset_name", source)
    if source == WORLD:
        world = world_problems(recipe.dataset_train_split, WORLD_PROBLEMS, seed=recipe.seed)
        drawn, options = list(part.problems(world)), _augment_options(recipe)
        made = partial(world_augmentation, drawn, options)
        prompts, described = list(made(seed=recipe.seed)), "from the built-in world"
        prompts = _varied(recipe, prompts, lambda seed: list(made(seed=seed)))
    elif Path(source).is_file() and holds_prompts(source):
        prompts, described = part.prompts(list(read_prompts(source))), f"from {source}"
    elif holds_labels(source, **_where(recipe)):
        prompts, described = part.prompts(_labelled(recipe, left_out)), f"labelled in {source}"
    else:
        prompts, described = _augmented(recipe, policy, left_out)
        prompts = _varied(recipe, prompts, lambda seed: _other_draw(recipe, policy, seed))
    kinds = Counter(p.intent for p in prompts)
    counts = ", ".join(f"{kinds[intent]} {intent}" for intent in Intent)
    priced = [replace(prompt, ask_cost=_ask_cost(recipe, prompt)) for prompt in prompts]
    opened = [opened_prompt(prompt, recipe.system_prompt) for prompt in priced]
    return opened, f"{counts}, {described}{_told(left_out)}"


def _varied(
    recipe: Recipe, prompts: list[Prompt], other: Callable[[int], Sequence[Prompt]]
) -> list[Prompt]:
    """The prompts, several underspecified ones of a problem where the curriculum chooses among
    them. other: what another seed draws."""
    if recipe.prompt_curriculum.get("name") != "eva":
        return prompts
    options = recipe.bind("prompt_curriculum", EvaOptions, skip=["name"])
    return with_variants(
        prompts, lambda number: other(recipe.seed + 1_000_003 * number), options.variants
    )


def _other_draw(recipe: Recipe, policy: Policy | None, seed: int) -> list[Prompt]:
    return _augmented(recipe.model_copy(update={"seed": seed}), policy, Counter())[0]


def _told(left_out: Counter[str]) -> str:
    """What is said of rows that became no prompt, by what was expected of them."""
    reasons = (f"{n} rows left out, expected {reason}" for reason, n in left_out.most_common())
    return "".join(f", {reason}" for reason in reasons)


def later_prompts(recipe: Recipe, policy: Policy | None = None) -> list[Prompt]:
    """The same prompts without the words of `system_prompt`, for when they are dropped."""
    return training_prompts(recipe.model_copy(update={"system_prompt": None}), policy)[0]


def require_corpus(recipe: Recipe) -> None:
    """Raises what `training_prompts` would where the corpus cannot be read: before the model is
    loaded that makes the prompts."""
    from icpo_lite.data.reward_spread import reward_spreads
    from icpo_lite.data.sources import read_problems

    options = _augment_options(recipe)
    if options.removal == "spread" and options.spread_from is not None:
        reward_spreads(options.spread_from)
    for member in members(recipe):
        alone = member.recipe
        require_data(alone, "dataset_name", alone.dataset_name)
        if alone.dataset_name == WORLD:
            continue
        rows = read_problems(
            alone.dataset_name,
            task=alone.task,
            limit=1,
            on_bad_row=options.on_bad_row,
            **_where(alone),
        )
        next(iter(rows), None)


def require_kinds(recipe: Recipe, prompts: Sequence[Prompt]) -> None:
    """Raises DataError where the corpus lacks a kind of prompt that the recipe asks for."""
    moves = recipe.share_schedule["name"] != "constant"
    fraction = 0.5 if moves else recipe.share_underspecified  # what moves takes both kinds
    PromptPool(prompts, seed=recipe.seed, weights=weights(recipe)).require(fraction)


def _augment_options(recipe: Recipe) -> AugmentOptions:
    from icpo_lite.data.augment import AugmentOptions

    return recipe.bind("augment", AugmentOptions)


def _where(recipe: Recipe) -> dict[str, Any]:
    """What tells which rows a recipe trains on, beside its `dataset_name`."""
    return {
        "columns": recipe.columns,
        "split": recipe.dataset_train_split,
        "config": recipe.dataset_config,
    }


def _labelled(recipe: Recipe, left_out: Counter[str]) -> list[Prompt]:
    """Prompts of a corpus that says itself which of its rows lack something."""
    from icpo_lite.data.labelled_rows import read_labelled

    options = _augment_options(recipe)
    return read_labelled(
        recipe.dataset_name,
        **_where(recipe),
        task=labelled_task(recipe),
        limit=options.limit,
        on_bad_row=options.on_bad_row,
        bad_rows=left_out,
    )


def labelled_task(recipe: Recipe) -> TaskName | None:
    """The task of labelled rows: `math`, which a recipe says by default, leaves it to the rows."""
    return None if recipe.task == "math" else recipe.task


def _augmented(
    recipe: Recipe, policy: Policy | None, left_out: Counter[str]
) -> tuple[list[Prompt], str]:
    """Prompts of a raw corpus, from the cache where the same were made before.

    left_out: counts the rows that cannot be read, by reason.
    """
    from icpo_lite.data.augment import augment
    from icpo_lite.data.prompt_file import read_prompts, write_prompts
    from icpo_lite.data.sources import read_problems

    options = _augment_options(recipe)
    cached = user_cache("prompts") / f"{_corpus_key(recipe, options)}.jsonl"
    counted = cached.with_suffix(".left_out.json")
    if cached.is_file() and (before := _counted(counted)) is not None:
        left_out.update(before)
        return list(read_prompts(cached)), f"from {recipe.dataset_name}, augmented before"
    rows = read_problems(
        recipe.dataset_name,
        columns=recipe.columns,
        task=recipe.task,
        split=recipe.dataset_train_split,
        config=recipe.dataset_config,
        limit=options.limit,
        on_bad_row=options.on_bad_row,
        bad_rows=left_out,
    )
    problems = trained_part(recipe).problems(rows)
    made = augment(
        problems, options, seed=recipe.seed, generator=_augmenting_model(recipe, options, policy)
    )
    cached.parent.mkdir(parents=True, exist_ok=True)
    write_prompts(cached, made)
    write_atomically(counted, json.dumps(left_out).encode())
    return list(read_prompts(cached)), f"from {recipe.dataset_name}"


def _counted(file: Path) -> dict[str, int] | None:
    """How many rows were left out when a corpus was augmented, by reason; None where not told."""
    try:
        counts = read_json(file.read_bytes())
    except (OSError, ValueError):
        return None
    return counts if isinstance(counts, dict) else None


def _augmenting_model(
    recipe: Recipe, options: AugmentOptions, policy: Policy | None
) -> Generator | None:
    from icpo_lite.core.endpoint import Endpoint

    if _by_server(options):
        block = options.endpoint or recipe.endpoint
        if block is None:
            raise RecipeError(
                f"{recipe.where('augment')}: augment.method: endpoint needs the block "
                "endpoint: {base_url: ..., model: ...}"
            )
        return Endpoint(block)
    if policy is None:
        return None
    from icpo_lite.rollout.sampler import PolicyGenerator

    rows = recipe.prompts_per_step * recipe.num_generations
    return PolicyGenerator(policy, adapter=False, max_rows=rows)


def _corpus_key(recipe: Recipe, options: AugmentOptions) -> str:
    """Names the prompts by all that they are made of."""
    from icpo_lite import __version__

    digest = hashlib.sha256()
    if (file := Path(recipe.dataset_name)).is_file():
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
    model = recipe.model_name_or_path if corpus_needs_model(recipe) else ""
    parts: list[Any] = [
        __version__,
        recipe.dataset_name,
        recipe.dataset_config,
        recipe.dataset_train_split,
    ]
    parts += [recipe.task, dict(recipe.columns), recipe.seed, model, options.model_dump()]
    parts += [recipe.eval_holdout]
    if _by_server(options) and recipe.endpoint is not None:
        parts.append(recipe.endpoint.model_dump())
    digest.update(json.dumps(parts, default=str).encode())
    digest.update(_rules_digest())
    return digest.hexdigest()[:32]


@cache
def _rules_digest() -> bytes:
    """Of the code that makes prompts: other rules make other prompts, whatever the version says."""
    digest = hashlib.sha256()
    for room in ("core", "data"):
        for file in sorted((Path(__file__).parents[1] / room).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()


def opened_prompt(prompt: Prompt, choice: str | None) -> Prompt:
    """The prompt behind the turn that opens its chat; a system turn of its own is part of that."""
    opening = opening_turn(choice, prompt, prompt.ask_cost)
    messages = with_opening(prompt.messages, opening)
    more = len(messages) - len(prompt.messages)
    return replace(prompt, messages=messages, opening=prompt.opening + more)


def _ask_cost(recipe: Recipe, prompt: Prompt) -> float | None:
    """What a question costs in one prompt: any of the recipe's costs, by a hash of its name."""
    if not recipe.ask_costs:
        return None
    return Random(f"ask cost/{recipe.seed}/{prompt.prompt_id}").choice(recipe.ask_costs)


def prompt_pool(recipe: Recipe, prompts: Sequence[Prompt]) -> PromptPool:
    """The pool that the recipe's `prompt_curriculum` draws from.

    Raises RecipeError, with the key's line.
    """
    name = recipe.prompt_curriculum.get("name")
    if name == "none":
        return PromptPool(prompts, seed=recipe.seed, weights=weights(recipe))
    if name == "eva":
        eva = recipe.bind("prompt_curriculum", EvaOptions, skip=["name"])
        return SpreadPool(prompts, eva, seed=recipe.seed, weights=weights(recipe))
    if name != "sec":
        raise RecipeError(
            f"{recipe.where('prompt_curriculum')}: prompt_curriculum: expected a name among none, "
            f"sec, eva, found {name!r}"
        )
    options = recipe.bind("prompt_curriculum", SecOptions, skip=["name"])
    return BanditPool(prompts, options, seed=recipe.seed, weights=weights(recipe))
