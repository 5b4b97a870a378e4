"""Judge models side by side: the same problems, the same noise, one table."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from icpo_lite import __version__
from icpo_lite.core.console import Display
from icpo_lite.core.errors import UsageError
from icpo_lite.core.files import write_atomically
from icpo_lite.core.oom import empty_cache
from icpo_lite.core.outputs import Kind, check_output, holds
from icpo_lite.core.paths import at_home
from icpo_lite.core.types import Intent, JudgeName, Message
from icpo_lite.data.contamination import seen_line_of, trained_texts
from icpo_lite.data.system_prompts import openings
from icpo_lite.evaluation.ask_probability import calibrated
from icpo_lite.evaluation.ask_threshold import AskingTalker, Prober, openings_for
from icpo_lite.evaluation.openings import Openings
from icpo_lite.evaluation.problems import read_evaluation_problems, trains_on
from icpo_lite.evaluation.resume import Progress
from icpo_lite.evaluation.runner import evaluate, require_problems, write_evaluation
from icpo_lite.evaluation.settings import SETTINGS, open_conversation, settings_for
from icpo_lite.evaluation.table import comparison_rows, data_rows, differences, fitting, remarks
from icpo_lite.kernels.chunks import free_bytes
from icpo_lite.policy.from_recipe import find_model
from icpo_lite.policy.load import SMALL_HIDDEN
from icpo_lite.recipe import Evaluation as EvaluationKeys
from icpo_lite.recipe.section import default_of
from icpo_lite.recipe.sections import LoraKeys, ModelKeys, RewardKeys
from icpo_lite.rewards.from_recipe import bind_judge, choose_shard
from icpo_lite.rollout.engines.prefix_memory import PrefixMemory
from icpo_lite.rollout.engines.registry import ENGINES, TRIED_PROMPTS, choose_engine
from icpo_lite.rollout.from_recipe import wanted_engine
from icpo_lite.rollout.groups import PolicyTalker
from icpo_lite.rollout.sampler import PolicyGenerator, SamplingOptions
from icpo_lite.rollout.simulated_user import ModelUser

if TYPE_CHECKING:
    from icpo_lite.core.endpoint import EndpointOptions
    from icpo_lite.core.types import Generator, Problem
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge

#: Conversations that are sampled at once on a CPU, where memory is not what limits them.
CPU_ROWS = 512
#: … and on a GPU; fewer where free memory does not hold them.
GPU_ROWS = 256
#: Share of the free memory for what conversations go on from.
REMEMBERED = 0.2
#: Conversations a problem and setting, where nobody says how many; of a data set that has many
#: prompts of its own one reply to each says as much about its rates.
RUNS, GIVEN_RUNS = 8, 1
#: Conversations that are played together on a CPU: few enough that each core has its share.
CPU_AT_ONCE = 560
#: … and on a GPU: enough that the last, half-full batch of a turn is rare.
GPU_AT_ONCE = 1024
#: Replies that are made and kept together where a reply takes long: no more are made in vain.
KEPT_ON_GPU, KEPT_ON_CPU = 2 * GPU_ROWS, 64

UserKind = Literal["deterministic", "self", "endpoint"]
#: What an evaluation leaves in its folder, also where it was interrupted.
JUDGED = Kind(
    "an earlier evaluation",
    holds("comparison.json", "*/eval.json", "*/conversations.partial.jsonl"),
    folder=True,
)


@dataclass(frozen=True)
class JudgingOptions:
    """How a model is judged; `sampling` without its `max_rows`, which the device decides.

    system: the system turn of every chat, or one of `system_prompts.CHOICES`. user: who words the
    shards: deterministic, self (the base model) or endpoint (`endpoint` names it).
    ask_threshold: above this probability of asking the model is made to ask. openings_from: the
    model or run directory whose evaluation tells how it asks. facts: written into eval.json as
    `judged_with`.
    """

    settings: tuple[str, ...]
    runs: int
    sampling: SamplingOptions
    seed: int = default_of(LoraKeys, "seed")
    max_turns: int | None = None
    system: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    user: UserKind = "deterministic"
    endpoint: EndpointOptions | None = default_of(RewardKeys, "endpoint")
    ask_threshold: float | None = None
    openings_from: str = ""


def judge_policy(
    name: str,
    policy: Policy,
    judge: Judge,
    problems: Sequence[Problem],
    options: JudgingOptions,
    place: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Judge one policy and write eval.json and conversations.jsonl into `place`.

    Interrupted, it goes on where it was, and ends as it would have ended. tell: is told so.
    """
    on_cpu = policy.device.torch_device.type == "cpu"
    rows = CPU_ROWS if on_cpu else GPU_ROWS
    at_once = CPU_AT_ONCE if on_cpu else GPU_AT_ONCE
    sampling = options.sampling.but(max_rows=rows, memory=remembered(policy))
    talker = PolicyTalker(policy, sampling)
    openings: Openings | None = None
    if options.ask_threshold is not None:
        openings, source = openings_for(policy, options.openings_from)
        tell(f"asks above {options.ask_threshold:g}, told by {source}")
    prober = Prober(policy, openings, sampling.temperature, rows) if openings else None
    place.mkdir(parents=True, exist_ok=True)
    identity = _identity(policy, problems, options, at_once)
    progress = Progress(place / "conversations.partial.jsonl", identity)
    if progress.found:
        tell(f"{name}: goes on after {progress.found} portions that were judged before")
    # A prober scores on the layers as they are, which a thread that samples has replaced.
    alone = options.user != "deterministic" or not judge.local or prober is not None
    result = evaluate(
        name,
        AskingTalker(talker, prober, options.ask_threshold or 0.0) if prober else talker,
        judge,
        problems,
        choose=choose_shard,
        settings=options.settings,
        runs=options.runs,
        seed=options.seed,
        max_turns=options.max_turns,
        system=_system(options),
        user=_user(policy, options, rows),
        at_once=at_once,
        kept_at_once=_kept_at_once(policy),
        workers=1 if alone or not on_cpu else _workers(),
        progress=progress,
        tell=tell,
    )
    result = calibrated(
        result, policy, problems, _system(options), prober, sampling.temperature, rows
    )
    summary = {**result.summary, "judged_with": dict(options.facts)}
    write_evaluation(replace(result, summary=summary), place)
    progress.remove()
    return summary


def remembered(policy: Policy) -> PrefixMemory:
    """A memory of what this policy's conversations go on from."""
    return PrefixMemory(int(REMEMBERED * free_bytes(policy.device.torch_device)))


def _kept_at_once(policy: Policy) -> int | None:
    """Replies that are made and kept together; None for a small model's, which take no time."""
    if policy.device.torch_device.type != "cpu":
        return KEPT_ON_GPU
    small = policy.causal_lm.config.get_text_config().hidden_size < SMALL_HIDDEN
    return None if small else KEPT_ON_CPU


def _workers() -> int:
    """Portions that are played side by side: the cores that torch's own threads leave free."""
    return max(1, len(os.sched_getaffinity(0)) // torch.get_num_threads())


def _system(options: JudgingOptions) -> Callable[[Problem], Message | None]:
    return openings(options.system)


def _user(policy: Policy, options: JudgingOptions, rows: int) -> ModelUser | None:
    """The model that plays the user; None for the deterministic one."""
    if options.user == "deterministic":
        return None
    generator: Generator = PolicyGenerator(policy, adapter=False, max_rows=rows)
    if options.user == "endpoint":
        from icpo_lite.core.endpoint import Endpoint

        generator = Endpoint(_require_server(options))
    return ModelUser(generator, choose_shard, seed=options.seed)


def _require_server(options: JudgingOptions) -> Any:
    """The server that plays the user; raises UsageError where one is asked for and not named."""
    if options.user == "endpoint" and options.endpoint is None:
        raise UsageError(
            "--user endpoint: expected a server, found none; give --user-base-url and "
            "--user-model, or a recipe with the block endpoint"
        )
    return options.endpoint


def _identity(
    policy: Policy, problems: Sequence[Problem], options: JudgingOptions, at_once: int
) -> str:
    """Names all that the conversations depend on, so that no other evaluation is gone on with."""
    asked = [
        *(__version__, torch.__version__, str(policy.device.torch_device), at_once),
        *(_weights_key(policy), {**asdict(options), "settings": None, "openings_from": ""}),
        [
            [p.problem_id, p.task, p.question, p.answer, [s.text for s in p.shards]]
            + [[q.prompt_id, q.text] for q in p.prompts]
            for p in problems
        ],
    ]
    text = json.dumps(asked, default=str, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@torch.no_grad()
def _weights_key(policy: Policy) -> str:
    """A checksum of the weights as they stand, and of whether the adapter is on."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in policy.model.named_parameters():
        flat = parameter.detach().contiguous().view(-1).view(torch.uint8)
        head = flat[:64].tolist()
        digest.update(f"{name} {int(flat.sum(dtype=torch.int64))} {head}\n".encode())
    off = any(getattr(m, "disable_adapters", False) is True for m in policy.model.modules())
    digest.update(str(off).encode())
    return digest.hexdigest()


# ----------------------------------------------------------------------------------- several models


def named_models(model: str, compare: str) -> dict[str, str]:
    """Name → run or model, the judged one first; `base` alone means the judged one's base.

    Raises UsageError for a part that is neither `base` nor NAME=PATH.
    """
    folder = Path(model).expanduser()
    models = {folder.resolve().name or folder.name or model: model}
    for part in filter(None, (p.strip() for p in compare.split(","))):
        name, _, path = part.partition("=")
        if part != "base" and not path:
            raise UsageError(f"--compare: expected base or NAME=RUN, separated by commas: {part!r}")
        if "/" in name or name in (".", ".."):
            raise UsageError(
                f"--compare: expected a plain name before =, found {name!r}; change it"
            )
        if name in models:
            raise UsageError(f"--compare: {name!r} names two models; give each a name of its own")
        models[name] = path
    return models


@dataclass(frozen=True)
class Wishes:
    """What the command line asks of an evaluation; None leaves it to the first model's recipe.

    data: one data set, or several that go into one table. settings: empty for all. problems and
    runs: None for as many as the data calls for. judged_by: who names the types of replies.
    """

    data: str | tuple[str, ...] | None = None
    split: str = "test"
    settings: tuple[str, ...] = ()
    problems: int | None = None
    runs: int | None = None
    temperature: float = default_of(EvaluationKeys, "temperature")
    max_new_tokens: int | None = None
    max_turns: int | None = None
    system: str | None = None
    user: UserKind = "deterministic"
    endpoint: EndpointOptions | None = default_of(RewardKeys, "endpoint")
    ask_threshold: float | None = None
    judged_by: JudgeName | None = None
    allow_code_execution: bool = default_of(RewardKeys, "allow_code_execution")
    device: str = default_of(ModelKeys, "device")
    seed: int = default_of(LoraKeys, "seed")


def judge_models(
    models: Mapping[str, str], wishes: Wishes, *, display: Display, output: Path | None = None
) -> dict[str, Any]:
    """Judge every model on the same problems, print one table, write the results.

    Results go to `output`, by default `eval-<split>` inside the first model's run directory, else
    `runs/eval-<name>`.
    """
    first = next(iter(models))
    # All that can be wrong without a model is looked at before one is loaded.
    found = {name: find_model(path or models[first]) for name, path in models.items()}
    place = output or _default_place(models[first], wishes.split)
    data = wishes.data if isinstance(wishes.data, tuple) else (wishes.data,)
    check_output(place, JUDGED, inputs=(*models.values(), *data))
    own = found[first].recipe
    if unknown := [name for name in wishes.settings if name not in SETTINGS]:
        raise UsageError(f"settings: expected some of {', '.join(SETTINGS)}, got {unknown[0]!r}")
    chosen = _judged_problems(wishes, own, display)
    options = _options(wishes, own, chosen)
    require_problems(chosen)
    _require_server(options)
    summaries: dict[str, Any] = {}
    for name, path in models.items():
        policy = found[name].load(wishes.device)
        # One judge for all: that of the first model's recipe.
        judge = bind_judge(
            own, policy, name=wishes.judged_by, allow_code_execution=wishes.allow_code_execution
        )
        with policy.adapter_off() if not path else contextlib.nullcontext():
            engine, why = judging_engine(policy, own, options, chosen)
            display.message(f"{name} is sampled by {why}")
            summaries[name] = judge_policy(
                name,
                policy,
                judge,
                chosen,
                replace(options, openings_from=path, sampling=options.sampling.but(engine=engine)),
                place / name,
                display.message,
            )
        display.message(f"judged {name}")
        del policy, judge  # before the next one is loaded: two do not fit on one card
        empty_cache()
    show_comparison(summaries, first, display)
    write_atomically(place / "comparison.json", f"{json.dumps(summaries, indent=2)}\n".encode())
    display.message(f"\nFigures and conversations: {place}")
    return summaries


def judging_engine(
    policy: Policy, recipe: Recipe | None, options: JudgingOptions, problems: Sequence[Problem]
) -> tuple[str, str]:
    """(engine, why): the recipe's where it can run here, else the fastest."""
    wanted = wanted_engine(recipe) if recipe else "auto"
    if wanted != "auto" and ENGINES[wanted].unfit(policy):
        wanted = "auto"
    system = _system(options)
    chats = [
        talk.chat
        for problem in problems[:TRIED_PROMPTS]
        if (talk := open_conversation(options.settings[0], problem, 0)) is not None
        and (talk := replace(talk, system=system(problem))) is not None
    ]
    prompts = PolicyTalker(policy, options.sampling).encoded(chats)
    return choose_engine(policy, wanted, prompts, options.sampling.but(max_rows=GPU_ROWS))


def _judged_problems(wishes: Wishes, recipe: Recipe | None, display: Display) -> list[Problem]:
    """The problems to judge on; says what was left out and what they are."""
    named = [wishes.data] if isinstance(wishes.data, str) else list(wishes.data or ())
    named = [str(at_home(name)) if name.startswith("~") else name for name in named]
    data = named or (recipe.evaluation.dataset_name if recipe else None) or None
    if trains_on(recipe, data, wishes.split):
        display.message(
            "warning: these problems were trained on; give others with --data or --split"
        )
    left_out: Counter[str] = Counter()
    found = read_evaluation_problems(
        data,
        recipe,
        split=wishes.split,
        count=wishes.problems,
        seed=wishes.seed,
        left_out=left_out,
    )
    if recipe is not None and not trains_on(recipe, data, wishes.split):
        seen = seen_line_of(found, trained_texts(recipe), "this evaluation")
        if seen:
            display.message(f"warning: {seen}")
    code = sum(p.task == "code" for p in found)
    allowed = wishes.allow_code_execution or (recipe is not None and recipe.allow_code_execution)
    if code and code < len(found) and not allowed:
        found = [p for p in found if p.task != "code"]
        left_out["leave to run generated code: --allow-code-execution"] += code
    if left_out:
        reasons = "; ".join(f"{n} rows, expected {reason}" for reason, n in left_out.most_common())
        display.message(f"left out: {reasons}")
    tasks = Counter(p.task for p in found)
    kinds = "" if len(tasks) < 2 else f" ({', '.join(f'{n} {t}' for t, n in tasks.items())})"
    given = [p for problem in found for p in problem.prompts]
    counts = Counter(p.intent for p in given)
    said = ", ".join(f"{counts[intent]} {intent} prompts" for intent in Intent) if given else ""
    held_out = recipe is not None and not data and recipe.eval_holdout > 0
    part = "kept back from training" if held_out else f"of the {wishes.split} split"
    what = f"{said} as the data has them" if given else part
    display.message(
        f"{len(found)} problems{kinds} {what} x {_runs(wishes, found)} runs, "
        f"temperature {wishes.temperature:g}; points with 95 % intervals over problems"
    )
    return found


def _runs(wishes: Wishes, problems: Sequence[Problem]) -> int:
    """Conversations a problem and setting: one reply to each of many prompts, else eight."""
    return wishes.runs or (GIVEN_RUNS if any(p.prompts for p in problems) else RUNS)


def _settings(wishes: Wishes, problems: Sequence[Problem]) -> tuple[str, ...]:
    settings = settings_for(problems, wishes.settings)
    if refused := [s for s in wishes.settings if s in SETTINGS and s not in settings]:
        raise UsageError(
            f"--settings: expected some of {', '.join(settings)} for a data set that has complete "
            f"and insufficient prompts of its own, found {refused[0]}; leave it out"
        )
    return wishes.settings or settings


def _options(wishes: Wishes, recipe: Recipe | None, problems: Sequence[Problem]) -> JudgingOptions:
    settings, runs = _settings(wishes, problems), _runs(wishes, problems)
    length = wishes.max_new_tokens or (recipe.max_completion_length if recipe else 48)
    system = wishes.system if wishes.system else recipe.served_system_prompt if recipe else None
    judged_by = {
        "judge": wishes.judged_by or (recipe.judge if recipe else default_of(RewardKeys, "judge")),
        "grading": recipe.grading if recipe else {},
    }
    return JudgingOptions(
        settings=settings,
        runs=runs,
        sampling=SamplingOptions(length, wishes.temperature),
        seed=wishes.seed,
        max_turns=wishes.max_turns,
        system=system,
        user=wishes.user,
        endpoint=wishes.endpoint or (recipe.endpoint if recipe else None),
        ask_threshold=wishes.ask_threshold,
        facts={
            "data": list(wishes.data) if isinstance(wishes.data, tuple) else wishes.data,
            "split": wishes.split,
            "problems": len(problems),
            "settings": list(settings),
            "runs": runs,
            "temperature": wishes.temperature,
            "max_new_tokens": length,
            "max_turns": wishes.max_turns,
            "system": system,
            "user": wishes.user,
            "ask_threshold": wishes.ask_threshold,
            "seed": wishes.seed,
            **judged_by,
        },
    )


def show_comparison(summaries: Mapping[str, Any], of: str, display: Display) -> None:
    """The table of all models, and the paired differences of one against the others."""
    for name, summary in summaries.items():
        title, listed = data_rows(name, summary)
        if listed:  # data sets with prompts of their own
            for header, rows in fitting(title, listed, display.console.width):
                display.table(header, rows)
    for header, rows in fitting(*comparison_rows(summaries), display.console.width):
        display.table(header, rows)
    for line in (*remarks(summaries), *differences(summaries, of)):
        display.message(line)


def _default_place(model: str, split: str) -> Path:
    folder = Path(model)
    if (folder / "recipe.yaml").is_file():
        return folder / f"eval-{split}"
    return Path("runs") / f"eval-{folder.name.replace(':', '-')}"
