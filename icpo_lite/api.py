"""What a user imports: `from icpo_lite import train, load_recipe, ...`. All else is private.

    from icpo_lite import load_recipe, train
    train(load_recipe("tiny", max_steps=20))

Sizes in docstrings: N token rows, V vocabulary, D hidden size. Shapes stand beside a tensor's name
(`hidden [N, D]`), units in words (nats, points of 100, seconds). Every error is an IcpoError.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from icpo_lite.core.errors import (
    DataError,
    DeviceError,
    GraderError,
    Halted,
    IcpoError,
    Interrupted,
    ModelError,
    NumericsError,
    OutOfMemory,
    RecipeError,
    RunDirectoryError,
    UsageError,
)
from icpo_lite.core.types import Prompt, ResponseType, Shard, TaskName
from icpo_lite.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    import torch

    from icpo_lite.core.console import Display
    from icpo_lite.policy.load import Policy
    from icpo_lite.rewards.grading import Grade
    from icpo_lite.training.trainer import Trainer


def __getattr__(name: str) -> Any:
    """Classes whose modules import torch."""
    if name == "Trainer":
        from icpo_lite.training.trainer import Trainer

        return Trainer
    if name == "Grade":
        from icpo_lite.rewards.grading import Grade

        return Grade
    raise AttributeError(f"module 'icpo_lite.api' has no attribute {name!r}")


__all__ = [
    "DataError",
    "DeviceError",
    "Grade",
    "GraderError",
    "Halted",
    "IcpoError",
    "Interrupted",
    "ModelError",
    "NumericsError",
    "OutOfMemory",
    "Prompt",
    "Recipe",
    "RecipeError",
    "ResponseType",
    "RunDirectoryError",
    "Trainer",
    "UsageError",
    "augment",
    "classify",
    "evaluate",
    "grade",
    "load_policy",
    "load_recipe",
    "token_logprobs",
    "train",
]


def train(
    recipe: Recipe,
    display: Display | None = None,
    *,
    resume_anyway: bool = False,
    extend: bool = False,
    threads: int | None = None,
) -> Path:
    """Trains, saves, judges and compares as the recipe says; returns the run directory.

        train(load_recipe("tiny", max_steps=20))

    display: where progress is shown, None for the terminal. resume_anyway: also where a key that
    decides what is learned has changed. extend: also where max_steps asks for more than a finished
    run has made. threads: of torch on a CPU; None shares the cores among this run and those
    compared with it. The same call resumes a run that was interrupted. Works in a script without a
    `__main__` guard, in a thread, in a notebook cell. Raises Interrupted once the work is saved
    after a signal, which only the main thread hears, RunDirectoryError for a directory that cannot
    be used, and any other IcpoError with the last whole checkpoint named.
    """
    from icpo_lite.runs.train import train as trained

    return trained(recipe, display, resume_anyway=resume_anyway, extend=extend, threads=threads)


def token_logprobs(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(target) and entropy in nats of each row, without logits of the whole batch in memory.

        logp, entropy = token_logprobs(hidden, model.lm_head.weight, targets)

    hidden [N, D], weight [V, D], targets [N] int64 -> [N], [N] fp32 (float64 for float64); the
    softmax is of hidden @ weightᵀ. Differentiable for `hidden`. options: bias [V], temperature,
    softcap, scale, ignore_index, chunk_rows, impl and entropy_grad, as
    `icpo_lite.kernels.logprob` says. Raises UsageError for arguments that do not fit together,
    NumericsError where a log-prob is NaN.
    """
    from icpo_lite.kernels.logprob import token_logprobs as computed

    return computed(hidden, weight, targets, **options)


def load_policy(model: str | Path | Recipe, *, device: str = "auto") -> Policy:
    """A model with its tokenizer, ready to sample.

        policy = load_policy("runs/tiny")        # a run: its base with its adapter
        policy = load_policy("builtin:tiny")     # a bare model: a folder, a hub name, builtin:tiny
        policy = load_policy(load_recipe("tiny"))  # a recipe's model with fresh LoRA weights

    device: auto, cpu, cuda or cuda:N. Raises ModelError for what cannot be loaded, UsageError for
    a folder that is neither a run nor a model, DeviceError for a device that is not there.
    """
    if isinstance(model, Recipe):
        from icpo_lite.policy.load import load_policy as load
        from icpo_lite.recipe.sections import PolicyKeys

        keys = PolicyKeys.of(model)
        return load(keys if device == "auto" else keys.but(device=device))
    from icpo_lite.policy.from_recipe import load_model

    return load_model(str(model), device=device)[0]


def evaluate(
    model: str | Path, *, output: str | Path | None = None, quiet: bool = True, **options: Any
) -> dict[str, Any]:
    """Judges a run or a model as Lost in Conversation does (arXiv 2505.06120): its figures.

        figures = evaluate("runs/tiny", settings=("full", "sharded"), problems=20, runs=4)
        figures["settings"]["sharded"]["P"]  # {"value": 0 to 100, "low": …, "high": …}

    options: those of `icpo-lite eval`, by the same names: data, split, settings, problems, runs,
    temperature, max_new_tokens, max_turns, system, ask_threshold, device, seed. output: a folder
    for figures and conversations, by default the command's. quiet: print nothing. Raises
    UsageError for an unknown option or setting, and what `load_policy` raises.
    """
    from icpo_lite.core.console import Display
    from icpo_lite.evaluation.compare import judge_models
    from icpo_lite.evaluation.request import evaluation_request

    asked = evaluation_request(**options)
    with Path("/dev/null").open("w") as nowhere:
        display = Display(total=0, live=False, file=nowhere) if quiet else Display(total=0)
        name = Path(model).name
        place = None if output is None else Path(output)
        found = judge_models({name: str(model)}, asked, display=display, output=place)
    return dict(found[name])


def augment(
    problems: str | Path | Iterable[Mapping[str, Any]],
    *,
    task: TaskName | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Prompt]:
    """Prompts made of problems: each complete, followed by its certified underspecified twin.

        prompts = augment([{"question": "…", "answer": "…"}])
        prompts = augment("problems.jsonl", max_removed=1)

    problems: a file, or rows as a file would hold them. options: those of a recipe's `augment`
    block. Raises DataError, with the row, for what cannot be read, and for an unknown option.
    """
    from pydantic import ValidationError

    from icpo_lite.data.augment import AugmentOptions
    from icpo_lite.data.augment import augment as made
    from icpo_lite.data.sources import read_problems
    from icpo_lite.recipe.messages import first_error

    try:
        chosen = AugmentOptions(**options)
    except ValidationError as error:
        raise DataError(
            first_error(error, lambda key: "augment", names=AugmentOptions.model_fields)
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(problems, str | Path):
            source = Path(problems)
        else:  # rows in memory are read as the same rows in a file would be
            source = Path(folder) / "problems.jsonl"
            lines = [json.dumps(row, ensure_ascii=False) for row in problems]
            source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        found = read_problems(source, task=task, limit=chosen.limit, on_bad_row=chosen.on_bad_row)
        return list(made(found, chosen, seed=seed))


def classify(reply: str, task: TaskName = "math", prompt: str | None = None) -> ResponseType:
    """What a reply is: one of Lost in Conversation's seven types (arXiv 2505.06120).

        classify("How many apples does Ann buy?")  # ResponseType.CLARIFICATION
        classify("3 + 4 = 7. The answer is 7.")    # ResponseType.ANSWER_ATTEMPT

    prompt: what was asked, where it is known: a reply that only repeats it answers nothing. Raises
    UsageError for a task that is none.
    """
    from icpo_lite.core.sentences import sentences
    from icpo_lite.recipe.messages import nearest
    from icpo_lite.rewards.response_type import classify as typed

    if task not in (tasks := get_args(TaskName)):
        raise UsageError(
            f"classify: expected a task out of {', '.join(tasks)}, found {task!r}"
            f"{nearest(str(task), tasks)}"
        )
    said = [Shard(i, sentence.text) for i, sentence in enumerate(sentences(prompt or ""))]
    return typed(reply, task=task, shards=said)


def grade(
    reply: str,
    answer: Any,
    task: TaskName = "math",
    *,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> Grade:
    """Whether a reply's answer is right.

        grade("3 + 4 = 7. The answer is 7.", "7").correct    # True
        grade("It is $7.50.", "7.5").extracted               # "7.50"

    answer: the gold one, in the form of the task: a number as text for math, allowed calls for
    actions, a query for database. columns: what the task needs beside it (tests, a schema).
    options: those of a recipe's `grading` block, such as allow_code_execution. Raises GraderError
    where the gold answer or the grader itself is at fault, never "wrong" instead; RecipeError for
    an unknown option.
    """
    from pydantic import ValidationError

    from icpo_lite.recipe.messages import first_error
    from icpo_lite.rewards.grading import GradingOptions
    from icpo_lite.rewards.grading import grade as graded

    try:
        chosen = GradingOptions(**options)
    except ValidationError as error:
        raise RecipeError(
            first_error(error, lambda key: "grading", names=GradingOptions.model_fields)
        ) from None
    return graded(task, reply, answer, columns, chosen)
