"""`icpo-lite doctor`: can this machine train, and what to fix."""

from __future__ import annotations

from pathlib import Path

import click

from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.core.next_step import next_line

_SIGNS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
_WIDTH = 80


@click.command(cls=OptionCommand)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--output-dir",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where runs will be written; its disk is looked at.",
)
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, output_dir: Path) -> None:
    """Look at GPU, driver, libraries, disk; say what clashes and how to fix it.

    Ends with one pip line that leaves the installed torch alone. Exit code 0 when this machine
    can train, else 1.
    """
    import json
    import textwrap
    from dataclasses import asdict

    from icpo_lite.tools.doctor import examine

    found = examine(output_dir)
    if as_json:
        values = {
            "can_train": found.can_train,
            "findings": [asdict(f) for f in found.findings],
            "pip": found.pip,
        }
        click.echo(json.dumps(values, indent=2))
    else:
        for finding in found.findings:
            opening = f"{_SIGNS[finding.state]:<8}{finding.subject:<16}"
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            click.echo(
                textwrap.fill(
                    finding.text + remedy,
                    _WIDTH,
                    initial_indent=opening,
                    subsequent_indent=" " * len(opening),
                    break_on_hyphens=False,
                )
            )
        click.echo("\nTo install what is missing or too old, and keep the installed torch:")
        click.echo(f"  {found.pip}")
        click.echo("This machine can train." if found.can_train else "This machine cannot train.")
        click.echo(
            next_line(*(("train", "tiny") if found.can_train else ("docs", "troubleshooting")))
        )
    ctx.exit(0 if found.can_train else 1)
