"""`icpo-lite classify`: response types of a file's replies, and how well given labels agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from icpo_lite.cli.common_options import force_option, output_option
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.cli.ranges import COUNT
from icpo_lite.core.next_step import next_line
from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from icpo_lite.core.types import JudgeName
    from icpo_lite.rewards.judge import Typer


@click.command(cls=OptionCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--text", default="assistant", show_default=True, help="Column of the reply.")
@click.option("--label", default=None, help="Column of a given type, to measure agreement with.")
@click.option("--task", default="task", show_default=True, help="Column of the task, or a task.")
@click.option("--user", default="user", show_default=True, help="Column of what the user said.")
@click.option("--by", default=None, help="Column to report agreement by, such as source_model.")
@click.option(
    "--judge",
    type=click.Choice(["rules", "linear", "self", "endpoint"]),
    default="linear",
    show_default=True,
    help="Who names the types: rules, a model learned from labelled turns, a model, a server.",
)
@click.option("--model", default=None, help="For self: the model; for endpoint: its name there.")
@click.option("--base-url", default=None, help="For endpoint: root of the server.")
@click.option("--api-key-env", default=None, help="For endpoint: variable that holds the key.")
@click.option("--device", default="auto", show_default=True, help="For self: auto, cpu, cuda.")
@click.option(
    "--audit",
    is_flag=True,
    help="Ask again in other words: does the judge go by position, length or authority?",
)
@click.option("--worst", type=COUNT, default=5, show_default=True, help="Disagreements to show.")
@output_option("Write the rows with predicted_type and evidence here.")
@force_option("classify")
def classify(
    file: Path,
    text: str,
    label: str | None,
    task: str,
    user: str,
    by: str | None,
    judge: JudgeName,
    model: str | None,
    base_url: str | None,
    api_key_env: str | None,
    device: str,
    audit: bool,
    worst: int,
    output: Path | None,
    force: bool,
) -> None:
    """Name the response type of each row of FILE (JSON lines).

    With --label, prints agreement for each task: answer attempt against the rest, all seven types,
    macro-F1, the confusion matrix and disagreements. With --audit, how many types change when the
    judge's list of types is turned round, courtesies are put around a reply, or a note behind it
    says that experts call it something else.
    """
    from icpo_lite.core.outputs import Kind, check_output, rows_with
    from icpo_lite.rewards import judge_agreement, judge_audit

    if output:
        kind = Kind("rows of an earlier `classify`", rows_with("predicted_type", "evidence"))
        check_output(output, kind, inputs=(file, model), force=force)
    columns = judge_agreement.Columns(text=text, task=task, user=user, label=label, by=by)
    rows = judge_agreement.read_rows(file, columns)
    typer = _typer(judge, model, base_url, api_key_env, device)
    typed, seconds = judge_agreement.type_rows(rows, typer)
    echo(f"{len(rows)} replies, {len(rows) / max(seconds, 1e-9):,.0f} a second by {judge}")
    if label:
        for line in judge_agreement.report(typed, worst=worst):
            echo(line)
    else:
        for line in judge_agreement.counts(typed):
            echo(line)
    if audit:
        for line in judge_audit.audit(typed, typer):
            echo(line)
    if output:
        judge_agreement.write(typed, output)
        echo(f"written: {output}")
    echo(next_line("docs", "rewards"))


def _typer(
    judge: JudgeName, model: str | None, base_url: str | None, api_key_env: str | None, device: str
) -> Typer:
    """The named judge; a model is loaded, or a server asked, only where one is named."""
    from icpo_lite.rewards.from_recipe import make_typer

    policy = endpoint = None
    if judge in ("self", "endpoint") and not model:
        raise click.UsageError(f"--judge {judge} needs --model")
    if judge == "endpoint" and not base_url:
        raise click.UsageError("--judge endpoint needs --base-url")
    if model and judge == "self":
        from icpo_lite.policy.from_recipe import load_model

        policy = load_model(model, device=device)[0]
    if model and base_url and judge == "endpoint":
        from icpo_lite.core.endpoint import EndpointOptions

        endpoint = EndpointOptions(base_url=base_url, model=model, api_key_env=api_key_env)
    return make_typer(judge, policy, endpoint)
