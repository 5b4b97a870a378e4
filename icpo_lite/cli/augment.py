"""`icpo-lite augment`: problems → shards → certified full and underspecified prompts."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icpo_lite.cli.common_options import (
    concurrency_option,
    force_option,
    named_server,
    output_option,
)
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.cli.ranges import SEED, Finite
from icpo_lite.core.next_step import next_line
from icpo_lite.core.visible_text import echo, visible_line

if TYPE_CHECKING:
    from icpo_lite.core.types import Generator, Prompt
    from icpo_lite.data.augment import AugmentOptions, Summary
    from icpo_lite.data.reply_cache import ReplyJournal

LEVELS = ("marks", "numbers", "solver", "tested", "none")
WORLD_SIZE = 1000


@click.command(cls=OptionCommand)
@click.argument("source")
@output_option("File to write: one prompt a line (JSON Lines).", dir_okay=False, required=True)
@force_option("augment")
@click.option(
    "--share",
    type=Finite(0, 0.5, min_open=True),
    help="Largest fraction of underspecified prompts; without it every certified one is kept.",
)
@click.option(
    "--method",
    type=click.Choice(["rules", "self", "endpoint"]),
    default="rules",
    show_default=True,
    help="Who splits problems into shards: rules offline, --model, or the server at --base-url.",
)
@click.option(
    "--verify",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="K",
    help="Sample the model K times on each pair; drop what it solves without the removed fact.",
)
@click.option("--preview", type=click.IntRange(min=0), default=0, help="Show this many pairs.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of what is removed.")
@click.option(
    "--max-removed",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="An underspecified prompt lacks one to this many facts.",
)
@click.option(
    "--removal",
    type=click.Choice(["random", "first", "most_needed", "spread"]),
    default="random",
    show_default=True,
    help="Which certified fact is removed.",
)
@click.option(
    "--spread-from",
    metavar="RUN",
    help="For --removal spread: the run whose completions tell where rewards differed most.",
)
@click.option(
    "--accept",
    "accept_levels",
    type=click.Choice(LEVELS),
    multiple=True,
    default=LEVELS[:4],
    show_default=True,
    help="Certificate levels that are good enough; may be given several times.",
)
@click.option(
    "--reword/--no-reword",
    default=True,
    show_default=True,
    help="Put 'some' or 'several' where a number cannot simply be deleted.",
)
@click.option(
    "--mid-conversation",
    type=Finite(0, 1),
    default=0.0,
    show_default=True,
    help="Fraction of prompts in which some facts were already given turn by turn.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Name of a column in SOURCE, as in --column question=problem.",
)
@click.option(
    "--task",
    type=click.Choice(["math", "actions", "code", "database", "open"]),
    help="What the rows are; without it the columns tell.",
)
@click.option("--split", default="train", show_default=True, help="Split of a hub data set.")
@click.option("--config", help="Configuration of a hub data set, such as main.")
@click.option("--limit", type=click.IntRange(min=1), help="Read at most this many problems.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="End at a row that cannot be read, or count it and go on.",
)
@click.option("--model", help="Model for --method self and --verify: run, folder or hub name.")
@click.option("--base-url", help="OpenAI-compatible server for --method endpoint.")
@click.option("--endpoint-model", help="The model's name on that server.")
@click.option("--api-key-env", help="Environment variable that holds the server's API key.")
@concurrency_option("Requests that the server is sent at once.")
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    help="End after so many requests; the same command goes on from there. [default: no bound]",
)
def augment(source: str, output: Path, preview: int, seed: int, **given: Any) -> None:
    """Turn the problems of SOURCE into complete and certified underspecified prompts.

    SOURCE is a JSON Lines, JSON, CSV or Parquet file (also packed), a hub data set such as
    openai/gsm8k, or builtin:world. Rows that say of themselves whether something lacks become
    prompts as they are.
    """
    from collections import Counter

    from icpo_lite.core.outputs import Kind, check_output, rows_with
    from icpo_lite.data.augment import Summary, write_prompts

    if given["max_requests"] and not given["base_url"]:
        raise click.UsageError("--max-requests bounds what a server is sent; give --base-url")
    kind = Kind("prompts of an earlier `augment`", rows_with("prompt_id", "intent", "messages"))
    read = (source, given["spread_from"], given["model"])
    check_output(output, kind, inputs=read, force=given.pop("force"))
    summary = Summary(bad_rows=Counter())
    options = _options(given)
    journal = _journal(options, given, output)
    prompts = _prompts(source, options, given, seed, summary, journal)
    with _progress(summary) as watch:
        written = write_prompts(output, _paid_for(watch(prompts), summary))
    if journal is not None and not summary.stopped:
        journal.close()
    _show_summary(summary, written, output, options.accept_levels)
    if summary.stopped:
        echo(
            f"stopped: {given['max_requests']} requests were sent (--max-requests); the same "
            "command goes on from there, what was replied is kept"
        )
    if preview:
        _show_pairs(output, preview)
    if summary.underspecified:
        echo(next_line("init", output.with_suffix(".yaml"), "--dataset", output))
    if not summary.underspecified and not summary.stopped:
        from icpo_lite.core.errors import DataError
        from icpo_lite.data.bare_answers import NONE_LACKS

        raise DataError(f"{NONE_LACKS}; {output} holds the complete prompts")


def _paid_for(prompts: Iterable[Prompt], summary: Summary) -> Iterator[Prompt]:
    """The prompts. Raises UsageError where the budget did not reach for a single one."""
    yield from prompts
    if summary.stopped and not summary.complete:
        raise click.UsageError(
            "--max-requests: expected enough for a first problem, found too few; raise it (what "
            "was replied is kept)"
        )


def _options(given: dict[str, Any]) -> AugmentOptions:
    from icpo_lite.data.augment import AugmentOptions

    own = {name: given[name] for name in AugmentOptions.model_fields if name in given}
    if given["base_url"] and given["model"] and given["method"] != "endpoint":
        raise click.UsageError(
            "expected one model that splits or tries, found --model, which is one here, and "
            "--base-url; name a server's model with --endpoint-model, or leave --base-url out"
        )
    tried_there = given["verify"] and given["base_url"] and not given["model"]
    if given["method"] == "endpoint" or tried_there:
        if not given["base_url"] or not given["endpoint_model"]:
            raise click.UsageError("a server needs both --base-url and --endpoint-model")
        own["endpoint"] = named_server(
            "--base-url",
            given["base_url"],
            given["endpoint_model"],
            given["api_key_env"],
            given["concurrency"],
        )
    elif (given["method"] == "self" or given["verify"]) and not given["model"]:
        raise click.UsageError(
            "--method self and --verify need --model, or --base-url and --endpoint-model"
        )
    return AugmentOptions(**own)


def _journal(options: AugmentOptions, given: dict[str, Any], output: Path) -> ReplyJournal | None:
    """The model that shards or solves, if any, with its replies kept beside the output."""
    if options.method == "rules" and not options.verify:
        return None
    from icpo_lite.data.reply_cache import ReplyJournal

    partial = output.with_name(f".{output.name}.replies")
    output.parent.mkdir(parents=True, exist_ok=True)
    if options.endpoint is not None:
        from icpo_lite.core.endpoint import Endpoint

        endpoint = Endpoint(options.endpoint, max_requests=given["max_requests"])
        return ReplyJournal(endpoint, partial, name=options.endpoint.model)
    from icpo_lite.data.reply_cache import LateGenerator
    from icpo_lite.policy.from_recipe import find_model

    found = find_model(given["model"])

    def load() -> Generator:
        from icpo_lite.rollout.sampler import PolicyGenerator

        return PolicyGenerator(found.load("auto"))

    return ReplyJournal(LateGenerator(load), partial, name=given["model"])


def _prompts(
    source: str,
    options: AugmentOptions,
    given: dict[str, Any],
    seed: int,
    summary: Summary,
    generator: ReplyJournal | None,
) -> Iterable[Prompt]:
    from icpo_lite.data import augment as augmenting
    from icpo_lite.data.labelled_rows import count_given, holds_labels, read_labelled
    from icpo_lite.data.sources import read_problems

    if source == "builtin:world":
        from icpo_lite.data.tiny_world import world_problems

        count = given["limit"] or WORLD_SIZE
        problems = list(world_problems(given["split"], count, seed=seed))
        return augmenting.world_augmentation(problems, options, seed=seed, summary=summary)
    columns = _columns(given["columns"])
    where = {"columns": columns, "split": given["split"], "config": given["config"]}
    rows = {
        **where,
        "task": given["task"],
        "limit": given["limit"],
        "on_bad_row": given["on_bad_row"],
        "bad_rows": summary.bad_rows,
    }
    if holds_labels(source, **where):
        labelled = read_labelled(source, **rows)
        count_given(labelled, summary)
        return labelled
    found = read_problems(source, **rows)
    return augmenting.augment(found, options, seed=seed, generator=generator, summary=summary)


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    columns = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(columns.values()):
        raise click.UsageError("--column: expected OURS=THEIRS, as in question=problem")
    return columns


# ---------------------------------------------------------------------------------- what is shown


class _progress:
    """A line of progress on a terminal; nothing elsewhere."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._bar: Any = None

    def __enter__(self) -> Any:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.__enter__()
        return self._watch

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def _watch(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        task = self._bar.add_task("reading", total=None) if self._bar else None
        for number, prompt in enumerate(prompts, start=1):
            yield prompt
            if task is not None and number % 100 == 0:
                done, found = self._summary.problems, self._summary.underspecified
                self._bar.update(task, description=f"{done} problems, {found} underspecified")


def _show_summary(summary: Summary, written: int, output: Path, accepted: Collection[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    total = max(summary.problems, 1)
    table.add_row(str(summary.problems), "problems read")
    for reason, count in summary.bad_rows.most_common():
        table.add_row(str(count), Text(visible_line(f"rows skipped: expected {reason}")))
    table.add_row(str(summary.sharded), "split into shards")
    certifies = set(accepted) != {"none"}
    if certifies:
        share = f"{100 * summary.certified / total:.1f} %"
        table.add_row(str(summary.certified), f"with a certified underspecified prompt ({share})")
    table.add_row(str(summary.complete), "complete prompts written")
    table.add_row(str(summary.underspecified), "underspecified prompts written")
    for level, count in summary.levels.most_common():
        told = {"none": "without a certificate", "tested": "certified by experiment (tested)"}
        how = told.get(level, f"certified by {level}" if certifies else f"by the level {level}")
        table.add_row(str(count), f"  {how}")
    if summary.mid_conversation:
        table.add_row(str(summary.mid_conversation), "prompts start mid-conversation")
    for reason, count in summary.dropped.most_common():
        table.add_row(str(count), Text(visible_line(f"dropped: {reason}")))
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    echo(f"{written} prompts in {output}")


def _show_pairs(output: Path, count: int) -> None:
    from icpo_lite.data.augment import read_prompts
    from icpo_lite.training.asking_demonstrations import asking_demonstration

    whole = ("", "")
    for prompt in read_prompts(output):
        if prompt.intent == "complete":
            whole = (prompt.problem_id, prompt.text)
            continue
        beside = whole[1] if whole[0] == prompt.problem_id else "(not in this file)"
        echo(f"\n{prompt.problem_id}\n  q   {beside}\n  q*  {prompt.text}")
        for shard in prompt.removed:
            echo(f"  removed: {shard.text}")
        if question := asking_demonstration(prompt):
            echo(f"  question: {question}")
        echo(f"  {prompt.certificate.level}: {prompt.certificate.out_of_reach}")
        if prompt.certificate.incomplete:
            echo(f"  gap: {prompt.certificate.incomplete}")
        count -= 1
        if not count:
            return
