"""A page in which the base and the trained model answer the same words, side by side (gradio).

Everything that a model or a person says is escaped here and shown as text; gradio gets finished
HTML and reads no Markdown in it.
"""

from __future__ import annotations

import importlib.util
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from icpo_lite.core.errors import UsageError
from icpo_lite.core.types import Message
from icpo_lite.core.visible_text import echo, visible, visible_line
from icpo_lite.tools.chat.talk import NEVER, Asking, Reply, Talk
from icpo_lite.tools.chat.web_style import COLOURS, CSS
from icpo_lite.tools.doctor import notebook_host

if TYPE_CHECKING:
    from types import ModuleType

#: What the extra `web` asks for.
GRADIO = "gradio>=6.31,<7"
PORT = 7860
#: Only this machine; gradio's own tunnel is what shares a page.
HOST = "127.0.0.1"
#: Longest text that is sent to a model, in characters; how many tokens it has is checked later.
MOST_TYPED = 100_000


def require_gradio() -> None:
    """Raises UsageError where gradio is not installed; it is not imported yet."""
    if importlib.util.find_spec("gradio") is None:
        raise UsageError(f"--web: expected gradio, found none; pip install '{GRADIO}'")


# ----------------------------------------------------------------------------------- what is said


@dataclass(frozen=True)
class Line:
    """One turn of a column. note: what was known of a reply before it came."""

    role: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One model's chat. adapter: False is the base. messages: what the model reads; lines: what
    people see, thoughts included."""

    title: str
    adapter: bool
    messages: tuple[Message, ...]
    lines: tuple[Line, ...] = ()

    @property
    def html(self) -> str:
        """The chat as HTML in which every text is text."""
        said = Markup("").join(map(_line, self.lines))
        empty = Markup('<p class="told">Nothing said yet.</p>')
        talk = Markup(
            '<h2>{0}</h2><div class="talk" role="log" tabindex="0" aria-label="{0}">'
            "<div>{1}</div></div>"
        )
        return str(talk.format(visible_line(self.title), said or empty))


def _line(line: Line) -> Markup:
    note = Markup('<span class="known">{}</span>').format(line.note) if line.note else ""
    return Markup(
        '<div class="turn {}"><p class="who">{} {}</p><p class="said">{}</p></div>'
    ).format(line.role, line.role, note, visible(line.text))


def columns(talk: Talk) -> tuple[Column, ...]:
    """Base and trained; the base alone where a model has no adapter."""
    base = Column("base", False, talk.opening)
    if not talk.policy.has_adapter:
        return (base,)
    return (base, Column(f"trained: {talk.name}", True, talk.opening))


@dataclass(frozen=True)
class Session:
    """What one open page has said and heard. token: tells it from others; "" before its first
    words."""

    columns: tuple[Column, ...]
    token: str = ""


class Page:
    """The page without its widgets: one model, one reply at a time, whoever asks."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self._model = threading.Lock()
        self._stopped: set[str] = set()

    def begin(self, before: Session | None = None) -> Session:
        """A new conversation."""
        return Session(columns(self.talk), before.token if before else "")

    def stop(self, session: Session) -> None:
        """End the reply that this page waits for; what was said so far stays."""
        self._stopped.add(session.token)

    def send(self, session: Session, text: str, threshold: float) -> Iterator[tuple[Session, str]]:
        """The columns as they fill up, one model after the other; or why nothing is said."""
        text = text.strip()
        session = replace(session, token=session.token or secrets.token_hex(8))
        asked = [_with_user(column, text) for column in session.columns]
        if why := self._refusal(asked, text):
            yield session, why
            return
        self._stopped.discard(session.token)
        for place in range(len(asked)):
            for filled in self._filled(asked[place], threshold, session.token):
                asked[place] = filled
                yield replace(session, columns=tuple(asked)), ""

    def _refusal(self, asked: Sequence[Column], text: str) -> str:
        if not text:
            return "Write something first."
        if len(text) > MOST_TYPED:
            return f"Expected at most {MOST_TYPED:,} characters, found {len(text):,}; shorten it."
        why = next(filter(None, (self.talk.too_long(c.messages) for c in asked)), "")
        return f"{why[0].upper()}{why[1:]}; begin a new conversation." if why else ""

    def _filled(self, column: Column, threshold: float, token: str) -> Iterator[Column]:
        """A column while its reply comes."""
        yield column
        text, note, reply = "", "", Reply("")
        for piece in pieces(self._speaker(column, threshold, token)):
            if isinstance(piece, Reply):
                reply = piece
            elif isinstance(piece, Asking):
                note = str(piece)
            else:
                text += piece
                yield replace(column, lines=(*column.lines, Line("assistant", text, note)))
        yield replace(
            column,
            messages=(*column.messages, Message("assistant", reply.spoken)),
            lines=(*column.lines, Line("assistant", reply.text or reply.nothing, note)),
        )

    def _speaker(
        self, column: Column, threshold: float, token: str
    ) -> Callable[[Callable[[Any], None]], Reply]:
        def speak(show: Callable[[Any], None]) -> Reply:
            def unless_stopped(piece: Any) -> None:
                show(piece)
                if token in self._stopped:
                    raise KeyboardInterrupt  # ends a reply as Ctrl-C does in a terminal

            with self._model:
                if token in self._stopped:
                    return Reply("")
                return self.talk.reply(
                    column.messages,
                    unless_stopped,
                    adapter=column.adapter,
                    threshold=threshold,
                    foretell=show,
                )

        return speak


def _with_user(column: Column, text: str) -> Column:
    return replace(
        column,
        messages=(*column.messages, Message("user", text)),
        lines=(*column.lines, Line("user", text)),
    )


def pieces(speak: Callable[[Callable[[Any], None]], Reply]) -> Iterator[Any]:
    """What `speak` shows, piece by piece, and its reply in the end.

    It works in a thread of its own, which ends at its next piece when nobody waits for more.
    """
    said: SimpleQueue[Any] = SimpleQueue()
    given_up = threading.Event()

    def show(piece: Any) -> None:
        if given_up.is_set():
            raise KeyboardInterrupt
        said.put(piece)

    def work() -> None:
        try:
            said.put(speak(show))
        except BaseException as error:
            said.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while not isinstance(piece := said.get(), Reply):
            if isinstance(piece, BaseException):
                raise piece
            yield piece
        yield piece
    finally:
        given_up.set()


# ------------------------------------------------------------------------------------- the widgets


def build(gradio: ModuleType, talk: Talk, threshold: float | None = None) -> Any:
    """The page as gradio's Blocks."""
    page = Page(talk)
    fresh = page.begin()
    with gradio.Blocks(title=f"icpo-lite chat: {talk.name}", analytics_enabled=False) as blocks:
        gradio.HTML(_head(talk))
        session = gradio.State(fresh)
        with gradio.Row(elem_id="columns"):
            shown = []
            for column in fresh.columns:
                with gradio.Column(min_width=280):
                    shown.append(gradio.HTML(column.html))
        typed = gradio.Textbox(label="Your message", lines=2, max_lines=8, elem_id="typed")
        with gradio.Row():
            send = gradio.Button("Send", variant="primary", elem_id="send")
            stop = gradio.Button("Stop", elem_id="stop")
            new = gradio.Button("New conversation", elem_id="new")
        status = gradio.HTML(_status(""), elem_id="status")
        above = gradio.Slider(
            0,
            NEVER,
            value=NEVER if threshold is None else threshold,
            step=0.01,
            label="Made to ask where P(ask) is above",
            info=f"At 1 no model is ever made to ask. P(ask) is told by {talk.source}.",
            elem_id="threshold",
        )

        def say(now: Session, text: str, threshold: float) -> Iterator[tuple[Any, ...]]:
            for filled, why in page.send(now, text, threshold):
                yield filled, *(c.html for c in filled.columns), text if why else "", _status(why)

        def begin(now: Session) -> tuple[Any, ...]:
            begun = page.begin(now)
            return begun, *(c.html for c in begun.columns), _status("")

        in_turn = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
        for asked in (send.click, typed.submit):
            asked(say, [session, typed, above], [session, *shown, typed, status], **in_turn)
        stop.click(page.stop, [session], None, queue=False)
        new.click(page.stop, [session], None, queue=False).then(
            begin, [session], [session, *shown, status], **in_turn
        )
    return blocks


def _head(talk: Talk) -> str:
    known = "P(ask) is how probable it was that a reply would ask."
    who = (
        "Both models read your words and answer in turn."
        if talk.policy.has_adapter
        else "This model has no adapter to switch off."
    )
    heading = Markup('<h1>{}</h1><p class="told">{} {}</p>')
    return str(heading.format(visible_line(talk.name), who, known))


def _status(why: str) -> str:
    return str(Markup('<p class="told" role="status">{}</p>').format(why))


def serve(
    talk: Talk,
    *,
    threshold: float | None = None,
    port: int | None = None,
    share: bool | None = None,
) -> None:
    """Open the page and serve it until Ctrl-C. Raises UsageError where the port is taken."""
    import gradio

    chosen = _free_port(port)
    on_colab = notebook_host() == "Colab"  # whose ports are not those of the user's machine
    blocks = build(gradio, talk, threshold)
    blocks.queue(default_concurrency_limit=1)
    _, local, public = blocks.launch(
        **launch_options(gradio), server_port=chosen, share=on_colab if share is None else share
    )
    echo(f"{local} (Ctrl-C ends it)" + (f"; for others: {public}" if public else ""))
    try:
        blocks.block_thread()
    finally:
        blocks.close(verbose=False)


def launch_options(gradio: ModuleType) -> dict[str, Any]:
    """How the page is served: quietly, on this machine, its fonts the system's own."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gradio.themes.Base(**fonts).set(**COLOURS)
    return {
        "server_name": HOST,
        "prevent_thread_lock": True,
        "quiet": True,
        "theme": theme,
        "css": CSS,
        "footer_links": [],
    }


def _free_port(wanted: int | None) -> int:
    """The port that was asked for, 7860 or a free one where none was."""
    for port in (PORT, 0) if wanted is None else (wanted,):
        with socket.socket() as tried:
            try:
                tried.bind((HOST, port))
            except OSError as error:
                if wanted is None:
                    continue
                raise UsageError(
                    f"--port {wanted}: expected a free port, found one that cannot be had "
                    f"({error.strerror}); give another, or --port 0 for a free one"
                ) from None
            found: int = tried.getsockname()[1]
            return found
    raise UsageError("--web: expected a free port, found none; give --port")
