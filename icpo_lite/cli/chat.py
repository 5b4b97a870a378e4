"""`icpo-lite chat`: talk to a run or a model."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from icpo_lite.core.visible_text import echo

if TYPE_CHECKING:
    from icpo_lite.core.types import Message
    from icpo_lite.evaluation.ask_threshold import AskingTalker
    from icpo_lite.policy.load import Policy
    from icpo_lite.rollout.sampler import SamplingOptions


@click.command()
@click.argument("model")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
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
    "--ask-threshold",
    default=None,
    type=click.FloatRange(min=0, max=1),
    help="Make the model ask where its probability of asking is above this; shows both.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sampling.")
def chat(
    model: str,
    temperature: float,
    max_new_tokens: int,
    system: str | None,
    ask_threshold: float | None,
    device: str,
    seed: int,
) -> None:
    """Talk to MODEL: a run directory, a model folder, a hub name, or builtin:tiny.

    /base switches the adapter off and on, /reset begins a new conversation, /exit leaves; Ctrl-C
    ends a reply. A thought is shown, and left out of what the model reads later. Lines can be
    piped in. The probability of asking comes from an `eval` of the same run where there is one.
    """
    from icpo_lite.core.thoughts import said
    from icpo_lite.core.types import Message
    from icpo_lite.data.system_prompts import system_words
    from icpo_lite.evaluation.ask_threshold import AskingTalker, Prober, openings_for
    from icpo_lite.policy.from_recipe import load_model
    from icpo_lite.rollout.groups import PolicyTalker
    from icpo_lite.rollout.sampler import SamplingOptions

    policy, recipe = load_model(model, device=device)
    if system is None and recipe is not None:
        system = system_words(recipe.served_system_prompt, recipe.task)
    limit = min(max_new_tokens, policy.max_positions // 2)
    sampling = SamplingOptions(limit, temperature)
    asking = None
    if ask_threshold is not None:
        openings, source = openings_for(policy, model)
        prober = Prober(policy, openings, temperature)
        echo(f"asks above {ask_threshold:g}, told by {source}")
        asking = AskingTalker(PolicyTalker(policy, sampling), prober, ask_threshold)
    opening = [Message("system", system)] if system else []
    messages = list(opening)
    adapter = policy.has_adapter
    echo(f"{Path(model).name}: /base, /reset, /exit")
    if isinstance(sys.stdin, io.TextIOWrapper):  # bytes that its encoding has not end no chat
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            text = _line()
        except (click.Abort, EOFError):
            echo()
            return
        if text in ("/exit", "/quit"):
            return
        if text in ("/reset", "/new"):
            messages = list(opening)
            continue
        if text == "/base":
            if not policy.has_adapter:
                echo("this model has no adapter: it is the base")
                continue
            adapter = not adapter
            echo(f"adapter {'on' if adapter else 'off: this is the base'}")
            continue
        messages.append(Message("user", text))
        room = policy.max_positions - limit
        if (length := len(policy.encode_chat(messages))) > room:
            echo(
                f"the conversation has {length} tokens, room is for {room}; /reset begins a new one"
            )
            messages.pop()
            continue
        with contextlib.nullcontext() if adapter else policy.adapter_off():
            reply = _reply(policy, messages, sampling, ("chat", seed, len(messages)), asking)
        spoken = said(reply)
        messages.append(Message("assistant", spoken))
        echo("" if spoken else f"({'thought, and said ' * bool(reply)}nothing)")


def _reply(
    policy: Policy,
    messages: list[Message],
    sampling: SamplingOptions,
    key: tuple[int | str, ...],
    asking: AskingTalker | None,
) -> str:
    """The model's next turn, shown as it comes; where it is made to ask, shown at once."""
    import numpy as np

    # After the model, since unsloth must be imported before transformers is.
    from icpo_lite.rollout.streaming import stream_reply

    if asking is not None:
        (p,) = asking.prober.ask_probability([messages])
        asks = bool(asking.asks(np.array(p)))
        echo(f"  P(ask) {p:.2f}{', made to ask' * asks}")
        if asks:
            (turn,) = asking.reply([messages], [key])
            _show(turn.content)
            return turn.content
    return stream_reply(policy, messages, sampling, key, _show)


def _line() -> str:
    """What is typed next; a line that was piped in is shown, so that the output reads as a chat."""
    typed = sys.stdin.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):  # other bytes than its encoding has end no chat
        sys.stdin.reconfigure(errors="replace")
    text: str = click.prompt("you", prompt_suffix="> ").strip()
    if not typed:
        echo(text)
    return text


def _show(piece: str) -> None:
    echo(piece, nl=False)
    sys.stdout.flush()
