"""`icpo-lite report`: one HTML file that shows what runs did."""

from __future__ import annotations

from pathlib import Path

import click

from icpo_lite.cli.common_options import force_option, output_option, port_option
from icpo_lite.cli.completion import complete_run
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.core.next_step import next_line


@click.command(cls=OptionCommand)
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    metavar="RUN...",
    type=click.Path(path_type=Path),
    shell_complete=complete_run,
)
@output_option("The file to write. [default: report.html in the first RUN]", dir_okay=False)
@click.option(
    "--png", is_flag=True, help="Also write each figure as PNG beside the file (needs matplotlib)."
)
@click.option(
    "--conversations",
    type=click.IntRange(min=0),
    default=None,
    help="Most conversations that the file holds, spread over settings and outcomes. "
    "[default: all that there is room for]",
)
@force_option("report")
@click.option(
    "--watch",
    is_flag=True,
    help="Write no file: serve the report on this machine and follow the run while it trains.",
)
@port_option("Port of --watch; 0 takes a free one. [default: 8765]")
def report(
    runs: tuple[Path, ...],
    output: Path | None,
    png: bool,
    conversations: int | None,
    force: bool,
    watch: bool,
    port: int | None,
) -> None:
    """Write one HTML file about each RUN directory, its compared and its judgements.

    A verdict in words, training curves, the comparison with intervals, the paper's figures,
    calibration, and a reader for conversations and completions. The file opens from disk, loads
    nothing and needs no network. Several runs are laid over one another, compared with the first.

    With --watch a browser of this machine shows the same page live, until Ctrl-C.
    """
    if watch:
        if output or png or force:
            raise click.UsageError("--watch writes no file; leave out -o, --png and --force")
        from icpo_lite.tools.report.live import watch as follow

        follow(runs, port, conversations)
        return
    if port is not None:
        raise click.UsageError("--port belongs to --watch; add --watch, or leave it out")
    from icpo_lite.core.outputs import Kind, begins_with, check_output
    from icpo_lite.tools.report.page import Options, make_report
    from icpo_lite.tools.report.run_files import require_runs

    require_runs(runs)
    place = output or runs[0] / "report.html"
    kind = Kind("an earlier report", begins_with('name="generator" content="icpo-lite'))
    check_output(place, kind, inputs=runs, force=force)
    made = make_report(runs, place, Options(conversations, png))
    for note in made.notes:
        click.echo(f"note: {note}")
    if made.total:
        click.echo(f"{made.shown} of {made.total} conversations shown")
    if made.pngs:
        click.echo(f"{len(made.pngs)} figures: {made.pngs[0].parent}")
    click.echo(f"{made.path} ({made.path.stat().st_size / 1e6:.1f} MB)")
    click.echo(next_line("chat", runs[0]))
