"""What a person sees of a run: live on a terminal, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from icpo_lite.core import types
from icpo_lite.core.streams import SteadyStream
from icpo_lite.core.visible_text import visible, visible_line

#: Metric, its short name, its format: what one line of progress says.
FIGURES: tuple[tuple[str, str, str], ...] = (
    ("reward", "reward", "{:.2f}"),
    ("accuracy", "right", "{:.0%}"),
    ("clarification_rate", "asks", "{:.0%}"),
    ("over_asking_rate", "over-asks", "{:.0%}"),
    ("entropy", "entropy", "{:.2f}"),
    ("tokens_per_second", "tok/s", "{:.0f}"),
    ("memory_gb", "GB", "{:.1f}"),
)


def on_terminal() -> bool:
    """Whether somebody watches: a terminal that can redraw a line, and not a CI's.

    A notebook gives its `!` commands a terminal that can only add lines; its kernel is told by the
    variable that Jupyter starts it with.
    """
    if "JPY_PARENT_PID" in os.environ:
        return False
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return SteadyStream().isatty() and not dumb and not os.environ.get("CI")


P = ParamSpec("P")


def _harmless(
    show: Callable[Concatenate[Display, P], None],
) -> Callable[Concatenate[Display, P], None]:
    """A method that shows something and never ends a run.

    What was shown while the output vanished is shown again in the log, where there is one.
    """

    @wraps(show)
    def shown(self: Display, *given: P.args, **named: P.kwargs) -> None:
        try:
            show(self, *given, **named)
            if self._moved_to_log():
                show(self, *given, **named)
        except Exception as error:  # whatever a terminal, a locale or a library comes up with
            self._stream.write(f"note: this cannot be shown: {type(error).__name__}: {error}\n")

    return shown


class Display:
    """Header, progress, examples and tables of one run.

    live: redraw a progress line in place; else print a line every `every` steps.
    file: where to print, standard output if None. Where that vanishes, lines go to the file that
    `goes_on_in` names.
    """

    def __init__(
        self,
        *,
        total: int,
        every: int = 1,
        live: bool | None = None,
        file: IO[str] | None = None,
    ) -> None:
        self.live = on_terminal() if live is None else live
        self._stream = SteadyStream(file)
        self._log: Path | None = None
        self.console = self._new_console()
        self._total, self._every = total, every
        self._region: Live | None = None
        self._started: tuple[float, int] | None = None

    def _new_console(self) -> Console:
        # Off a terminal nobody knows the width: lines are never cut or wrapped.
        width = None if self.live else 10_000
        stream: Any = self._stream
        return Console(highlight=False, soft_wrap=not self.live, file=stream, width=width)

    def goes_on_in(self, log: Path) -> None:
        """Names the file that takes what is shown once the output is gone."""
        self._log = log

    def record(self, text: str) -> None:
        """Writes a line to the log, whether or not the output is gone."""
        if self._log is not None:
            told = time.strftime("%Y-%m-%d %H:%M:%S")
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as file:
                file.write(f"{told} {visible(text)}\n")

    def _moved_to_log(self) -> bool:
        """Whether the output has vanished since the last look; lines then go to the log."""
        if not self._stream.lost or self._log is None or self._stream.log is not None:
            return False
        self.close()  # a live line is drawn to nowhere once more
        self.live, self._stream.log = False, self._log
        self.console = self._new_console()
        told = time.strftime("%Y-%m-%d %H:%M:%S")
        self._stream.write(f"{told} the output is gone ({self._stream.lost}); this goes on here\n")
        return True

    @_harmless
    def header(self, facts: Mapping[str, str | Sequence[str]]) -> None:
        """Name and value of each fact; a fact with several values takes a line for each."""
        width = max(map(len, facts))
        for name, value in facts.items():
            values = [value] if isinstance(value, str) else list(value)
            for i, line in enumerate(values):
                label = name if i == 0 else ""
                self.console.print(Text.assemble((f"{label:<{width}}  ", "dim"), visible(line)))

    @_harmless
    def message(self, text: str) -> None:
        self.console.print(Text(visible(text)))

    @_harmless
    def to_type(self, text: str) -> None:
        """Commands, each on one line whatever the terminal's width: they are copied from it."""
        self.console.print(Text(visible(text)), soft_wrap=True)

    @_harmless
    def step(self, report: types.StepReport) -> None:
        """One step's figures."""
        if self._started is None:
            self._started = (time.monotonic() - report.metrics["step_seconds"], report.step - 1)
        left = self._time_left(report.step)
        figures = [
            f"{short} {form.format(report.metrics[name])}"
            for name, short, form in FIGURES
            if name in report.metrics
        ]
        if self.live:
            self._draw(report.step, figures, left)
        elif report.step % self._every == 0 or report.step == self._total:
            line = "  ".join([f"step {report.step}/{self._total}", *figures, f"left {left}"])
            self.console.print(Text(line))

    @_harmless
    def example(self, group: types.Group) -> None:
        """One sampled prompt with its best and its worst response."""
        advantages = group.advantages or ()
        order = sorted(range(len(advantages)), key=lambda i: advantages[i])
        body: list[Text] = []
        for message in group.prompt.messages:
            said = visible(message.text)
            body.append(Text.assemble((f"{message.role}: ", "bold"), said))
        if group.prompt.removed:
            removed = " ".join(s.text for s in group.prompt.removed)
            body.append(Text.assemble(("removed: ", "bold"), (visible(removed), "dim")))
        for i in dict.fromkeys((order[-1], order[0])):
            body += _as_said(group.trajectories[i], advantages[i])
        if self.live:
            title = f"{group.prompt.intent} prompt, 2 of {len(advantages)} responses"
            self.console.print(Panel(Group(*body), title=title, title_align="left"))
        else:
            for line in body:
                self.console.print(Text("  | ").append_text(line))

    @_harmless
    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose first column names the rows."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, name in enumerate(header):
            table.add_column(_cell(name), justify="left" if i == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*map(_cell, row))
        self.console.print(table)

    def close(self) -> None:
        """Leave the last progress line standing and print below it."""
        region, self._region = self._region, None
        if region is not None:
            with contextlib.suppress(Exception):
                region.stop()

    def _time_left(self, step: int) -> str:
        assert self._started is not None
        begun, before = self._started
        seconds = (time.monotonic() - begun) / max(step - before, 1) * (self._total - step)
        return clock(seconds)

    def _draw(self, step: int, figures: Sequence[str], left: str) -> None:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            f"step {step}/{self._total}",
            ProgressBar(total=self._total, completed=step, width=40),
            f"{left} left",
        )
        region: Any = Group(bar, Text("  ".join(figures), overflow="ellipsis", no_wrap=True))
        if self._region is None:
            self._region = Live(region, console=self.console, refresh_per_second=8)
            self._region.start()
        else:
            self._region.update(region)


def _as_said(trajectory: types.Trajectory, advantage: float) -> list[Text]:
    """What followed a prompt, each reply with what it was, earned and is learned with."""
    body = []
    for turn in trajectory.turns:
        said = visible(turn.content) or "(nothing)"
        body.append(Text.assemble((f"{turn.role}: ", "bold"), said))
        if turn.role != "assistant":
            continue
        assert turn.verdict is not None
        assert turn.reward is not None
        right = {True: ", right", False: ", wrong", None: ""}[turn.verdict.correct]
        learned = turn.advantage if isinstance(turn.advantage, float) else advantage
        body.append(
            Text(
                f"  {turn.verdict.response_type}{right}  reward {turn.reward.total:.2f}  "
                f"advantage {learned:+.2f}",
                style="dim",
            )
        )
    return body


def _cell(text: str) -> Text:
    """A cell as it was given: no brackets are read as a style, nothing leaves its line."""
    return Text(visible_line(text))


def clock(seconds: float) -> str:
    """1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
