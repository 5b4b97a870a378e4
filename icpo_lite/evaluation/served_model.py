"""Judge models behind a chat server: the same settings, problems and table as for our own.

vLLM, llama.cpp, Ollama, SGLang and every other server that speaks OpenAI's chat completions. Many
conversations are played side by side. What was replied lies in the evaluation's own folder until it
is done, so that one that a dying server interrupted goes on without asking again.

P(ask) comes from the likeliest first tokens that the server tells of, at temperature 1: openings
are one token long, and what is not among those counts as any other.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icpo_lite.core.endpoint import Endpoint, EndpointOptions
from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.data.system_prompts import openings as opening_turns
from icpo_lite.evaluation.ask_probability import calibrated
from icpo_lite.evaluation.compare import finish_judging, prepare_judging
from icpo_lite.evaluation.judging import JudgingOptions, played
from icpo_lite.evaluation.kept_evaluation import REPLIES, identity_of, judged_in
from icpo_lite.evaluation.openings import Openings
from icpo_lite.evaluation.runner import Evaluation
from icpo_lite.evaluation.serving import serving, told_of
from icpo_lite.rewards.from_recipe import bind_judge, choose_shard
from icpo_lite.rollout.served_talker import ServedTalker, token_id
from icpo_lite.rollout.simulated_user import ModelUser

if TYPE_CHECKING:
    from icpo_lite.core.console import Display
    from icpo_lite.core.types import Problem
    from icpo_lite.evaluation.request import EvaluationRequest
    from icpo_lite.recipe import Recipe
    from icpo_lite.rewards.judge import Judge

#: Likeliest first tokens that a server is asked for, the most that it gives being found out.
TOP = (20, 5)
#: Conversations of one portion, as a multiple of those that are played side by side: enough that
#: the slots stay full while a turn's last replies come in.
PORTIONS = 8
_HELLO = (Message("user", "Say hello."),)


@dataclass(frozen=True)
class ServedProber:
    """P(ask) from the first tokens that a server tells of (`ask_probability.AskProber`)."""

    endpoint: Endpoint
    top: int
    openings: Openings
    words: dict[int, str] = field(repr=False)

    def ask_probability(self, chats: Sequence[Sequence[Message]]) -> list[float]:
        """P(ask) of the next turn of each chat; equal chats are asked for once."""
        if not chats:
            return []
        distinct = list(dict.fromkeys(map(tuple, chats)))
        replies = self.endpoint.complete(
            distinct,
            max_new_tokens=1,
            temperature=1.0,
            seeds=[0] * len(distinct),
            logprobs=self.top,
        )
        place = {ids[0]: m for m, ids in enumerate(self.openings.tokens)}
        logps = np.full((len(distinct), len(place)), -np.inf)
        for row, reply in zip(logps, replies, strict=True):
            for text, logp in reply.first.items():
                self.words[token_id(text)] = text
                if (column := place.get(token_id(text))) is not None:
                    row[column] = logp
        told = self.openings.ask_probability(logps).tolist()
        found = dict(zip(distinct, told, strict=True))
        return [found[tuple(chat)] for chat in chats]

    def decode(self, ids: Sequence[int]) -> str:
        """The words of tokens, as far as the server has told them."""
        return "".join(self.words.get(i, "…") for i in ids)


def judge_served(
    models: Mapping[str, str],
    asked: EvaluationRequest,
    server: EndpointOptions,
    *,
    recipe: Recipe | None,
    display: Display,
    output: Path | None = None,
) -> dict[str, Any]:
    """Judge every model of a server on the same problems, print one table, write the results.

    models: name in the table → name on the server. server: its `model` does not count. recipe: says
    what is not asked. Results go to `output`, by default `runs/eval-<name>`.

    Raises UsageError for what cannot be asked of a server, ModelError when it does not answer.
    """
    first = next(iter(models))
    _check(asked)
    place = output or Path("runs") / f"eval-{first}"
    length = asked.key("max_completion_length", recipe)
    asked = replace(asked, keys={"max_completion_length": length, **asked.keys})
    prepared = prepare_judging(asked, recipe, place, [], display)
    judge = bind_judge(
        recipe,
        None,
        name=asked.keys.get("judge"),
        allow_code_execution=asked.said("allow_code_execution"),
    )
    summaries: dict[str, Any] = {}
    for name, model in models.items():
        summaries[name] = _judge(
            name,
            server.model_copy(update={"model": model}),
            judge,
            prepared.problems,
            prepared.options,
            place / name,
            display,
        )
        display.message(f"judged {name}")
    finish_judging(summaries, first, place, display)
    return summaries


def _check(asked: EvaluationRequest) -> None:
    """Raises UsageError for what takes the weights themselves."""
    for option, given in (
        ("--ask-threshold", asked.ask_threshold is not None),
        ("--judge self", asked.keys.get("judge") == "self"),
        ("--user self", asked.user == "self"),
    ):
        if given:
            raise UsageError(
                f"{option}: expected a model that is loaded here, found one behind --endpoint, "
                "which gives replies alone; leave it out"
            )


def _judge(
    name: str,
    server: EndpointOptions,
    judge: Judge,
    problems: Sequence[Problem],
    options: JudgingOptions,
    place: Path,
    display: Display,
) -> dict[str, Any]:
    """One model's evaluation in its folder."""
    kept = place / REPLIES
    endpoint = Endpoint(server.model_copy(update={"cache_dir": str(kept)}))
    top = _most_told(endpoint)
    gives = f"log-probs of {top} tokens" if top else "no log-probs: no P(ask), AUROC, entropy"
    display.message(
        f"{server.model} at {server.base_url}: {gives}; {server.concurrency} conversations at once"
    )
    system = opening_turns(options.system, options.ask_cost)

    def finish(result: Evaluation) -> Evaluation:
        if not top:
            return result
        words: dict[int, str] = {}

        def prober_of(openings: Openings) -> ServedProber:
            return ServedProber(endpoint, top, openings, words)

        decode = prober_of(Openings((), (), 0.0)).decode
        return calibrated(result, problems, system, prober_of, decode, depth=1)

    talker = serving(
        ServedTalker(
            endpoint, options.sampling.max_new_tokens, options.sampling.temperature, bool(top)
        ),
        options.serve_as,
    )
    where = (server.base_url, server.model, server.extra_body, server.concurrency)
    try:
        summary = judged_in(
            place,
            name,
            talker,
            judge,
            problems,
            identity=identity_of(where, played(options), problems),
            facts={**options.facts, "endpoint": server.base_url, "model": server.model},
            finish=finish,
            settings=options.block.settings,
            runs=options.block.runs,
            seed=options.noise_seed,
            max_turns=options.block.max_turns,
            system=system,
            user=_user(options),
            at_once=PORTIONS * server.concurrency,
            tell=display.message,
        )
    except ModelError as error:
        raise ModelError(f"{error}; the same command goes on from there") from error
    shutil.rmtree(kept, ignore_errors=True)
    if line := told_of(talker):
        display.message(line)
    return summary


def _user(options: JudgingOptions) -> ModelUser | None:
    if options.user != "endpoint" or options.user_server is None:
        return None
    return ModelUser(Endpoint(options.user_server), choose_shard, seed=options.noise_seed)


def _most_told(endpoint: Endpoint) -> int:
    """Of how many first tokens the server tells the log-probs; 0 where of none.

    Also the first word with the server: raises ModelError where it does not answer.
    """
    endpoint.complete([_HELLO], max_new_tokens=1, temperature=1.0, seeds=[0])
    for top in TOP:
        try:
            (reply,) = endpoint.complete(
                [_HELLO], max_new_tokens=1, temperature=1.0, seeds=[0], logprobs=top
            )
        except ModelError:
            continue  # it may refuse so many, or any
        if reply.first:
            return top
    return 0
