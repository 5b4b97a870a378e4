"""`icpo-lite chat`: talk to a run or a model."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import click

from icpo_lite.cli.common_options import device_option, port_option
from icpo_lite.cli.completion import complete_model
from icpo_lite.cli.option_command import OptionCommand
from icpo_lite.cli.ranges import SEED, Finite
from icpo_lite.core.next_step import next_line
from icpo_lite.core.paths import at_home, is_run
from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from icpo_lite.tools.chat.talk import Asking, Talk


#: What is typed to the program and not to the model.
SLASHES = {
    "/help": "this list",
    "/base": "switch the adapter off, or on again: off, the untrained base speaks",
    "/reset": "begin a new conversation (or /new)",
    "/exit": "leave (or /quit, Ctrl-D); Ctrl-C ends a reply",
}
_ALSO = {"/new": "/reset", "/quit": "/exit", "/?": "/help", "/h": "/help"}


@click.command(cls=OptionCommand)
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--temperature",
    type=Finite(min=0),
    default=0.7,
    show_default=True,
    help="0 is greedy.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Longest reply in tokens.",
)
@click.option(
    "--system", default=None, help="System turn that opens the chat. [default: the run's]"
)
@click.option(
    "--ask-cost",
    default=None,
    type=Finite(min=0),
    help="What the system turn says that a question costs, for a run with ask_costs. "
    "[default: the first of them]",
)
@click.option(
    "--ask-threshold",
    default=None,
    type=Finite(min=0, max=1),
    help="Make the model ask where its probability of asking is above this; shows both.",
)
@device_option()
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the sampling.")
@click.option(
    "--web",
    is_flag=True,
    help="Talk in a page instead: base and trained side by side (needs gradio).",
)
@port_option("Port of the page, with --web; 0 takes a free one. [default: 7860, or a free one]")
@click.option(
    "--share/--no-share",
    default=None,
    help="A public link to the page, with --web. [default: on Colab alone]",
)
def chat(
    model: str,
    temperature: float,
    max_new_tokens: int,
    system: str | None,
    ask_cost: float | None,
    ask_threshold: float | None,
    device: str,
    seed: int,
    web: bool,
    port: int | None,
    share: bool | None,
) -> None:
    """Talk to MODEL: a run directory, a model folder, a hub name, or builtin:tiny.

    /base switches the adapter off and on, /reset begins a new conversation, /exit leaves, /help
    lists these; Ctrl-C ends a reply. A line that begins with // is said with one slash. A thought
    is shown, and left out of what the model reads later. Lines can be piped in. The probability of
    asking comes from an `eval` of the same run where there is one.

    With --web a page shows what the base and the trained model say to the same words, and how
    probable it was that each would ask; it is served on this machine alone.
    """
    if not web and (port is not None or share is not None):
        raise click.UsageError("--port and --share belong to --web; add --web, or leave them out")
    if web:
        from icpo_lite.tools.chat.web_page import require_gradio

        require_gradio()
    from icpo_lite.tools.chat.talk import open_talk

    talk = open_talk(
        model,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        system=system,
        ask_cost=ask_cost,
        probing=web or ask_threshold is not None,
        device=device,
        seed=seed,
    )
    if web:
        from icpo_lite.tools.chat.web_page import serve

        serve(talk, threshold=ask_threshold, port=port, share=share)
    else:
        _in_terminal(talk, ask_threshold, model)


def _in_terminal(talk: Talk, ask_threshold: float | None, model: str) -> None:
    """Lines that are typed or piped in, each with its reply, until the input or the user ends."""
    from icpo_lite.core.types import Message
    from icpo_lite.tools.chat.talk import NEVER

    policy = talk.policy
    if ask_threshold is not None:
        echo(f"asks above {ask_threshold:g}, told by {talk.source}")
    messages = list(talk.opening)
    adapter = policy.has_adapter
    echo(f"{talk.name}: {', '.join(SLASHES)}")
    if isinstance(sys.stdin, io.TextIOWrapper):  # bytes that its encoding has not end no chat
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            text = _line()
        except (click.Abort, EOFError):
            echo()
            text = "/exit"
        slash = _ALSO.get(text, text)
        if slash == "/exit":
            if is_run(at_home(model)):
                echo(next_line("export", model))
            return
        if slash == "/reset":
            messages = list(talk.opening)
            echo("a new conversation")
            continue
        if slash == "/base":
            if not policy.has_adapter:
                echo("this model has no adapter to switch off; what was merged into it stays")
                continue
            adapter = not adapter
            told = "on" if adapter else "off: this is the base"
            echo(f"adapter {told}; it reads what was said so far, /reset begins anew")
            continue
        if text.startswith("/") and not text.startswith("//"):
            echo(_slashes_told(slash))
            continue
        text = text.removeprefix("/") if text.startswith("//") else text
        messages.append(Message("user", text))
        if why := talk.too_long(messages):
            echo(f"{why}; /reset begins a new one")
            messages.pop()
            continue
        threshold = NEVER if ask_threshold is None else ask_threshold
        reply = talk.reply(
            messages, _show, adapter=adapter, threshold=threshold, foretell=_foretell
        )
        messages.append(Message("assistant", reply.spoken))
        echo(reply.nothing)


def _slashes_told(text: str) -> str:
    """The list that /help asks for; for a slash that is none, what it may have meant."""
    if text == "/help":
        return "\n".join(f"  {name:<8}{meaning}" for name, meaning in SLASHES.items())
    import difflib

    name = text.split()[0]
    close = difflib.get_close_matches(name, [*SLASHES, *_ALSO], n=1)
    hint = f"did you mean {close[0]}?" if close else "/help lists what there is"
    return f"no command {name!r}; {hint} (to say it to the model, begin with //)"


def _foretell(asking: Asking) -> None:
    echo(f"  {asking}")


def _line() -> str:
    """What is typed next; a line that was piped in is shown, so that the output reads as a chat."""
    typed = sys.stdin.isatty()
    text: str = click.prompt("you", prompt_suffix="> ").strip()
    if not typed:
        echo(text)
    return text


def _show(piece: str) -> None:
    echo(piece, nl=False)
    sys.stdout.flush()
