"""The one command line: a Click group, a file a command.

A command's module is imported when it is used, so that `icpo-lite --help` answers at once and
imports neither torch nor transformers. Errors raised on purpose become one line and an exit code
here and nowhere else: 0 done, 1 failed while running, 2 the recipe or the arguments are wrong,
130 interrupted.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import IO, TYPE_CHECKING, Any

import click

from icpo_lite import __version__
from icpo_lite.core.errors import DeviceError, IcpoError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: How seldom Python looks for cycles: libraries make a million objects as they are imported, and
#: all of them stay.
CYCLES = (50_000, 20, 20)
#: Command → its place as module:attribute, and what `icpo-lite --help` says of it.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("icpo_lite.cli.init:init", "Write a commented recipe to start from."),
    "augment": ("icpo_lite.cli.augment:augment", "Make underspecified prompts from problems."),
    "preview": (
        "icpo_lite.cli.preview:preview",
        "Show prompts beside their underspecified twins.",
    ),
    "check": ("icpo_lite.cli.check:check", "Try a recipe's reward on known responses."),
    "plan": ("icpo_lite.cli.plan:plan", "Say what a recipe needs: memory, disk, time."),
    "doctor": (
        "icpo_lite.cli.doctor:doctor",
        "Say whether this machine can train, and what to fix.",
    ),
    "docs": ("icpo_lite.cli.docs:docs", "Read the guide, a topic, or what a recipe's key means."),
    "train": ("icpo_lite.cli.train:train", "Train a recipe, or resume an interrupted run."),
    "advise": (
        "icpo_lite.cli.advise:advise",
        "Gather advice for a system prompt, no weights changed.",
    ),
    "handover": (
        "icpo_lite.cli.handover:handover",
        "Hand a recipe to TRL or verl, for many GPUs.",
    ),
    "eval": ("icpo_lite.cli.eval:eval_", "Judge a run or model in FULL, CONCAT and SHARDED."),
    "report": ("icpo_lite.cli.report:report", "Show runs in one HTML file: curves, tables, talks."),
    "chat": ("icpo_lite.cli.chat:chat", "Talk to a run or model."),
    "export": ("icpo_lite.cli.export:export", "Merge a run into a model that stands alone."),
    "reproduce": (
        "icpo_lite.cli.reproduce:reproduce",
        "Train base, RLVR and ICPO with the same seeds: the table.",
    ),
    "classify": ("icpo_lite.cli.classify:classify", "Name the type of each response in a file."),
    "bench": ("icpo_lite.cli.bench:bench", "Measure the log-prob path on this machine."),
}

#: Heading → the commands under it in `icpo-lite --help`; what stands under none comes last.
GROUPS: dict[str, tuple[str, ...]] = {
    "Start": ("doctor", "init", "augment", "preview", "check", "plan", "docs"),
    "Train": ("train", "reproduce", "handover"),
    "Judge": ("eval", "report", "chat", "classify", "bench"),
    "After": ("export",),
}

#: Libraries whose Python warnings (deprecations among themselves, mostly) a user cannot act on.
NOISY = ("transformers", "peft", "bitsandbytes", "accelerate", "huggingface_hub")
INTERRUPTED = 130
#: Options that print a text and leave.
TELLING = ("-h", "--help", "-V", "--version", "--completion")
_ENVIRONMENT = {
    # What these libraries print belongs to their developers, not into a table of progress.
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
    # Their bars redraw the line that a run's own progress stands on.
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_MININTERVAL": "1",
}


def prepare_environment() -> None:
    """As `icpo_lite` itself does: set what libraries read when imported, for a command line."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if sys.stderr is None or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


prepare_environment()


class CommandError(click.ClickException):
    """An error raised on purpose, as Click shows it: `Error: …` on one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: IO[Any] | None = None) -> None:
        """An interruption that was asked for is no error and is not called one."""
        if self.exit_code == INTERRUPTED:
            click.echo(self.message, file=file, err=True)
        else:
            super().show(file)


class LazyGroup(click.Group):
    """Commands by name and place; the module behind one is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The tables of commands from their one-line helps, without importing them."""
        widest = max(map(len, COMMANDS))
        grouped = {name for names in GROUPS.values() for name in names}
        others = tuple(name for name in COMMANDS if name not in grouped)
        for heading, names in (*GROUPS.items(), ("More", others)):
            if names:
                with formatter.section(heading):
                    formatter.write_dl([(n.ljust(widest), COMMANDS[n][1]) for n in names])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib  # a mistyped command alone needs it

            close = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(COMMANDS)}"
            if name == "help":
                hint = f"write icpo-lite {' '.join([*args[1:2], '--help'])}"
            elif name.endswith((".yaml", ".yml")) or name in _shipped():
                hint = f"did you mean `icpo-lite train {name}`?"
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands with their one-line helps, without importing them."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _require_linux(sys.platform)
            return super().invoke(ctx)
        except IcpoError as error:
            raise CommandError(_without_secrets(str(error)), error.exit_code) from error
        except OSError as error:
            raise CommandError(_os_problem(error), IcpoError.exit_code) from error


def _shipped() -> Collection[str]:
    from icpo_lite.recipe import shipped_recipes

    return shipped_recipes()


def _without_secrets(message: str) -> str:
    """A message may quote a value from a recipe or a command line; no token is shown or logged."""
    from icpo_lite.core.files import redact

    return str(redact(message))


def _require_linux(platform: str) -> None:
    """4-bit training needs bitsandbytes and triton as Linux has them."""
    advice = {
        "win32": "found Windows; install WSL2 (`wsl --install`) and run icpo-lite inside it",
        "darwin": "found macOS; use a Linux machine or a Colab notebook",
    }
    if not platform.startswith("linux"):
        found = advice.get(platform, f"found {platform}")
        raise DeviceError(f"expected Linux or WSL2, {found}")


def _os_problem(error: OSError) -> str:
    """What a failed file operation means for the person at the keyboard."""
    place = f" at {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"expected room to write{place}, found no space left; free some, then run it again"
    if isinstance(error, FileNotFoundError):
        return f"expected a file{place}, found none; check the path"
    if isinstance(error, PermissionError):
        return f"expected to be allowed to use the file{place}, found permission denied"
    return f"{error.strerror or error}{place}"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(__version__, "-V", "--version", help="Show the version and leave.")
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, param, shell: _show_completion(ctx, shell),
    help="Print what completes commands, recipes and keys in this shell, and leave.",
)
def cli() -> None:
    """Train a language model to ask before it guesses, on one consumer GPU (ICPO).

    Begin with `icpo-lite train tiny`, which needs no GPU and no download; `icpo-lite docs` is the
    guide.
    """


def _show_completion(ctx: click.Context, shell: str | None) -> None:
    if shell is None or ctx.resilient_parsing:
        return
    from icpo_lite.cli.completion import script

    click.echo(script(shell, ctx.command))
    ctx.exit()


def run(args: list[str]) -> int:
    """Run one command line and return its exit code.

    Output that vanishes (`icpo-lite … | head`, a closed terminal) ends no command.
    """
    from icpo_lite.core.streams import steady_output

    with steady_output():
        try:
            with _signals(args):
                return _run(args)
        except KeyboardInterrupt:  # one that came while another was told of
            return INTERRUPTED


def _signals(args: list[str]) -> AbstractContextManager[None]:
    """Signals interrupt a command; what only prints its help is spared their module."""
    if not args or args[0] in TELLING:
        return nullcontext()
    from icpo_lite.runs.signals import interrupting_signals

    return interrupting_signals()


def _run(args: list[str]) -> int:
    for library in NOISY:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    try:
        result = cli.main(args, prog_name="icpo-lite", standalone_mode=False)
    except click.exceptions.Abort:  # Click's name for Ctrl-C
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        from icpo_lite.core.visible_text import visible

        # It may quote a file or a server.
        error.message = visible(error.message)  # type: ignore[misc]
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of `icpo-lite` and of `python -m icpo_lite`."""
    from icpo_lite.core.streams import fill_standard_streams

    gc.set_threshold(*CYCLES)
    fill_standard_streams()
    if "ICPO_LITE_PARENT" in os.environ:  # `core.parent.VARIABLE`, whose module takes its time
        from icpo_lite.core.parent import end_with_parent

        end_with_parent()
    sys.exit(run(sys.argv[1:]))
