"""Judge one model: play the conversations of all settings, write eval.json and what was said."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from icpo_lite.core.errors import UsageError
from icpo_lite.data.system_prompts import openings as opening_turns
from icpo_lite.evaluation.ask_probability import calibrated
from icpo_lite.evaluation.ask_threshold import AskingTalker, Prober, openings_for
from icpo_lite.evaluation.kept_evaluation import identity_of, judged_in
from icpo_lite.evaluation.openings import Openings
from icpo_lite.evaluation.serving import ServeAs, serving, told_of
from icpo_lite.evaluation.settings import open_conversation
from icpo_lite.policy.cpu import SMALL_HIDDEN
from icpo_lite.recipe import Evaluation
from icpo_lite.rewards.from_recipe import make_user
from icpo_lite.rollout.engines.fitting_rows import GPU_ROWS, prefix_memory
from icpo_lite.rollout.engines.registry import ENGINES, TRIED_PROMPTS, choose_engine
from icpo_lite.rollout.from_recipe import wanted_engine
from icpo_lite.rollout.groups import PolicyTalker
from icpo_lite.rollout.sampler import SamplingOptions

if TYPE_CHECKING:
    from icpo_lite.core.endpoint import EndpointOptions
    from icpo_lite.core.types import Problem
    from icpo_lite.policy.load import Policy
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge
    from icpo_lite.rollout.conversation import User

#: Conversations that are played together on a CPU: few enough that each core has its share. All
#: are sampled at once, where memory holds them.
CPU_AT_ONCE = CPU_ROWS = 560
#: … and on a GPU: enough that the last, half-full batch of a turn is rare.
GPU_AT_ONCE = 1024
#: Replies that are made and kept together where a reply takes long: no more are made in vain.
KEPT_ON_GPU, KEPT_ON_CPU = 2 * GPU_ROWS, 64

UserKind = Literal["deterministic", "self", "endpoint"]


@dataclass(frozen=True)
class JudgingOptions:
    """How a model is judged.

    block: the recipe's block, whose settings and runs are those that are played. sampling:
    without its `max_rows`, which the device decides. noise_seed: of the conversations, the same
    for all models. system: the system turn of every chat, or one of `system_prompts.CHOICES`.
    ask_cost: what it says that a question costs.
    user: who words the shards: deterministic, self (the base model) or endpoint (`user_server`
    names it). serve_as: in which form the model reads a chat (`serving.SERVED`). ask_threshold:
    above this probability of asking the model is made to ask.
    openings_from: the model or run directory whose evaluation tells how it asks. facts: written
    into eval.json as `judged_with`.
    """

    block: Evaluation
    sampling: SamplingOptions
    noise_seed: int = 0
    system: str | None = None
    ask_cost: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    user: UserKind = "deterministic"
    user_server: EndpointOptions | None = None
    ask_threshold: float | None = None
    serve_as: ServeAs = "plain"
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
    rows, at_once = (CPU_ROWS, CPU_AT_ONCE) if on_cpu else (GPU_ROWS, GPU_AT_ONCE)
    sampling = options.sampling.but(max_rows=rows, memory=prefix_memory(policy))
    talker = PolicyTalker(policy, sampling)
    openings: Openings | None = None
    if options.ask_threshold is not None:
        openings, source = openings_for(policy, options.openings_from)
        tell(f"asks above {options.ask_threshold:g}, told by {source}")

    def prober_of(found: Openings) -> Prober:
        return Prober(policy, found, sampling.temperature, rows)

    prober = prober_of(openings) if openings else None
    # A prober scores on the layers as they are, which a thread that samples has replaced.
    alone = options.user != "deterministic" or not judge.local or prober is not None
    system = opening_turns(options.system, options.ask_cost)
    asking = AskingTalker(talker, prober, options.ask_threshold or 0.0) if prober else talker
    served = serving(asking, options.serve_as)
    where = (torch.__version__, str(policy.device.torch_device), at_once, _weights_key(policy))
    summary = judged_in(
        place,
        name,
        served,
        judge,
        problems,
        identity=identity_of(where, played(options), problems),
        facts=options.facts,
        finish=lambda result: calibrated(
            result, problems, system, prober_of, policy.decode, prober
        ),
        settings=options.block.settings,
        runs=options.block.runs,
        seed=options.noise_seed,
        max_turns=options.block.max_turns,
        system=system,
        user=_user(policy, options, rows),
        at_once=at_once,
        kept_at_once=_kept_at_once(policy),
        workers=1 if alone or not on_cpu else _workers(),
        tell=tell,
    )
    if line := told_of(served):
        tell(line)
    return summary


def judging_engine(
    policy: Policy, recipe: Recipe | None, options: JudgingOptions, problems: Sequence[Problem]
) -> tuple[str, str]:
    """(engine, why): the recipe's where it can run here, else the fastest."""
    wanted = wanted_engine(recipe) if recipe else "auto"
    if wanted != "auto" and ENGINES[wanted].unfit(policy):
        wanted = "auto"
    setting, system = options.block.settings[0], opening_turns(options.system, options.ask_cost)
    opened = [open_conversation(setting, problem, 0) for problem in problems[:TRIED_PROMPTS]]
    chats = [replace(t, system=system(t.problem)).chat for t in opened if t is not None]
    prompts = PolicyTalker(policy, options.sampling).encoded(chats)
    if not prompts:
        return wanted, wanted
    return choose_engine(policy, wanted, prompts, options.sampling.but(max_rows=GPU_ROWS))


def _kept_at_once(policy: Policy) -> int | None:
    """Replies that are made and kept together; None for a small model's, which take no time."""
    if policy.device.torch_device.type != "cpu":
        return KEPT_ON_GPU
    small = policy.causal_lm.config.get_text_config().hidden_size < SMALL_HIDDEN
    return None if small else KEPT_ON_CPU


def _workers() -> int:
    """Portions that are played side by side: the cores that torch's own threads leave free."""
    return max(1, len(os.sched_getaffinity(0)) // torch.get_num_threads())


def _user(policy: Policy, options: JudgingOptions, rows: int) -> User | None:
    """The model that plays the user; None for the deterministic one."""
    server = require_server(options) if options.user == "endpoint" else None
    return make_user(options.user, policy, server, seed=options.noise_seed, rows=rows)


def require_server(options: JudgingOptions) -> Any:
    """The server that plays the user; raises UsageError where one is asked for and not named."""
    if options.user == "endpoint" and options.user_server is None:
        raise UsageError(
            "--user endpoint: expected a server, found none; give --user-base-url and "
            "--user-model, or a recipe with the block endpoint"
        )
    return options.user_server


def played(options: JudgingOptions) -> dict[str, Any]:
    """The options that a single conversation depends on: not which settings are played beside."""
    told = {f.name: getattr(options, f.name) for f in fields(options)}
    told["block"] = options.block.model_dump(exclude={"settings"})
    told["sampling"] = options.sampling.model_dump()
    return {**told, "openings_from": ""}


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
