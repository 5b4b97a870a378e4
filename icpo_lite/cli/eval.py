"""`icpo-lite eval`: judge a run or model as Lost in Conversation does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icpo_lite.cli.common_options import (
    concurrency_option,
    device_option,
    key_option,
    named_server,
    output_option,
)
from icpo_lite.cli.completion import complete_model
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.cli.ranges import SEED, Finite

if TYPE_CHECKING:
    from icpo_lite.core.console import Display
    from icpo_lite.core.endpoint import EndpointOptions
    from icpo_lite.evaluation.request import EvaluationRequest


@click.command(cls=OptionCommand)
@click.argument("model", required=False, shell_complete=complete_model)
@click.option(
    "--data",
    multiple=True,
    help="builtin:world, a hub data set or a file; several times for one table of several data "
    "sets. [default: the run's own, else builtin:world]",
)
@click.option("--split", default="test", show_default=True, help="Split of the data to judge on.")
@click.option(
    "--settings",
    default="",
    help="By comma, of full, concat, sharded, recap, snowball, clean_history, underspecified, "
    "contradictory. [default: all but contradictory]",
)
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    default=None,
    help="Number of problems. [default: 140; all of Lost in Conversation's own, and of data with "
    "labels of what lacks]",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=None,
    help="Conversations a problem and setting. [default: 8; 1 for prompts of the data's own]",
)
@click.option(
    "--temperature",
    type=Finite(min=0),
    default=1.0,
    show_default=True,
    help="0 is greedy.",
)
@click.option(
    "--max-new-tokens",
    default=None,
    type=click.IntRange(min=1),
    help="Longest reply, in tokens. [default: the run's; of a bare model 48, with --endpoint 1024]",
)
@click.option(
    "--max-turns",
    default=None,
    type=click.IntRange(min=1),
    help="Most assistant turns of a conversation. [default: the setting's]",
)
@click.option(
    "--system",
    default=None,
    help="System turn: lic (what the task wants), neutral, none, or the text. [default: the run's]",
)
@click.option(
    "--ask-cost",
    default=None,
    type=Finite(min=0),
    help="What the system turn says that a question costs, for a run with ask_costs.",
)
@click.option(
    "--user",
    type=click.Choice(["deterministic", "self", "endpoint"]),
    default="deterministic",
    show_default=True,
    help="Who says the shards: verbatim, or reworded by the base model or by a server.",
)
@click.option("--user-base-url", default=None, help="For endpoint: root of the server.")
@click.option("--user-model", default=None, help="For endpoint: the model's name there.")
@click.option("--user-api-key-env", default=None, help="For endpoint: variable with the key.")
@click.option(
    "--ask-threshold",
    default=None,
    type=Finite(min=0, max=1),
    help="Make the model ask where its probability of asking is above this.",
)
@click.option(
    "--adapter-off",
    is_flag=True,
    help="Judge the model that MODEL was trained from, as MODEL is judged.",
)
@click.option(
    "--serve-as",
    type=click.Choice(["plain", "cleaned", "recap", "snowball", "mediator"]),
    default="plain",
    show_default=True,
    help="What the model reads before each reply: the chat; the user's turns as one, without its "
    "own; the chat with all that the user said in the last turn, or in each; or one request that "
    "it writes of the user's turns itself.",
)
@click.option(
    "--judge",
    "judged_by",
    type=click.Choice(["rules", "linear", "self"]),
    default=None,
    help="Who names the types of replies. [default: the run's, else linear]",
)
@click.option(
    "--allow-code-execution",
    is_flag=True,
    help="Run generated code, in a sandbox, to grade tasks of code.",
)
@click.option(
    "--compare",
    default="",
    help="More models side by side: base,rlvr=RUN,icpo=RUN; with --endpoint NAME=MODEL of the "
    "same server.",
)
@click.option(
    "--endpoint",
    "endpoint_url",
    metavar="URL",
    help="Judge a model behind an OpenAI-compatible server: http://localhost:8000/v1.",
)
@click.option("--model", "served", metavar="NAME", help="With --endpoint: the model's name there.")
@key_option()
@concurrency_option("With --endpoint: conversations that are played at once.")
@device_option()
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seed of problems and sampling."
)
@output_option("Folder for the results.")
def eval_(
    model: str | None,
    settings: str,
    compare: str,
    output: Path | None,
    endpoint_url: str | None,
    served: str | None,
    api_key_env: str | None,
    concurrency: int,
    user_base_url: str | None,
    user_model: str | None,
    user_api_key_env: str | None,
    adapter_off: bool,
    **given: Any,
) -> None:
    """Judge MODEL (a run directory, an adapter of peft, a model folder, a hub name, builtin:tiny).

    Prints P, A90 and U of each setting with 95 % intervals over problems, how often it asks when
    something is missing, and how often when nothing is. --data takes a file of problems, what
    `augment` wrote, or Lost in Conversation's own instructions. A data set that says of its own
    prompts whether something lacks (MiP, UMWP, AskBench, IN3 …) is judged on these: asks on q*,
    for what lacks, over-asks on q, AUROC of P(ask), right on q. An interrupted evaluation goes on
    where it was.

    With --endpoint URL --model NAME a served model gets the same table: one on many GPUs (vLLM), a
    GGUF file (llama.cpp), Ollama. MODEL may then name the run whose recipe says how it is judged.
    P(ask) is told where the server gives log-probs.
    """
    from icpo_lite.core.console import Display
    from icpo_lite.policy.libraries import without_collecting

    with without_collecting():
        from icpo_lite.evaluation.compare import judge_models, named_models
        from icpo_lite.evaluation.request import evaluation_request

    server = _server(given["user"], user_base_url, user_model, user_api_key_env)
    given["settings"] = tuple(name.strip() for name in settings.split(",") if name.strip())
    asked = evaluation_request(**given, endpoint=server)
    if endpoint_url is None:
        if served is not None or api_key_env is not None:
            raise click.UsageError("--model and --api-key-env belong to --endpoint URL; give that")
        if model is None:
            raise click.UsageError("expected MODEL, or --endpoint URL and --model NAME")
    elif not served:
        raise click.UsageError("--endpoint needs --model NAME, the model's name on that server")

    def judge_all() -> None:
        display = Display(total=0)
        if endpoint_url is None:
            judge_models(
                named_models(model or "", compare),
                asked,
                display=display,
                output=output,
                adapter_off=adapter_off,
            )
            return
        there = named_server("--endpoint", endpoint_url, served or "", api_key_env, concurrency)
        _judge_served(there, model, compare, asked, display, output)

    try:
        judge_all()
    except KeyboardInterrupt:
        from icpo_lite.cli import INTERRUPTED, CommandError

        raise CommandError(
            "interrupted; the same command goes on from there", INTERRUPTED
        ) from None


def _judge_served(
    server: EndpointOptions,
    run: str | None,
    compare: str,
    asked: EvaluationRequest,
    display: Display,
    output: Path | None,
) -> None:
    from icpo_lite.evaluation.compare import named_models
    from icpo_lite.evaluation.served_model import judge_served
    from icpo_lite.policy.from_recipe import find_model

    recipe = find_model(run).recipe if run is not None else None
    models = named_models(server.model, compare)
    if "" in models.values():
        raise click.UsageError("--compare: with --endpoint expected NAME=MODEL, found base alone")
    judge_served(models, asked, server, recipe=recipe, display=display, output=output)


def _server(
    user: str, base_url: str | None, model: str | None, api_key_env: str | None
) -> EndpointOptions | None:
    """The server that plays the user, where the command line names one."""
    if user != "endpoint" or (base_url is None and model is None):
        return None
    if not base_url or not model:
        raise click.UsageError("--user endpoint needs both --user-base-url and --user-model")
    return named_server("--user-base-url", base_url, model, api_key_env)
