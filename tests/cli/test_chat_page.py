"""The page of a chat: two models side by side, what is said as text, and in a browser."""

import importlib.util
import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser import FAINT, Browser, find_browser

from icpo_lite.cli import run
from icpo_lite.core.types import Message
from icpo_lite.tools.chat import web_page
from icpo_lite.tools.chat.talk import Asking, Reply
from icpo_lite.tools.chat.web_page import GRADIO, Page, Session, columns, pieces

HOSTILE = (
    '</script><script>window.pwned = 1</script><img src=x onerror="window.pwned = 2"> **bold** '
    "[a](javascript:window.pwned=3) ${window.pwned=4} {{value}} $x^2$ \x1b[31m"
)


class TwoModels:
    """Stands in for `Talk`: the base guesses, the trained one asks in hostile words.

    waits: held back before its last piece, for tests that stop it.
    """

    name, source = "tiny-run", "words"
    opening = (Message("system", "Be brief."),)

    def __init__(self, adapter: bool = True, waits: threading.Event | None = None) -> None:
        self.policy = SimpleNamespace(has_adapter=adapter)
        self.waits = waits
        self.heard: list[tuple[bool, float, list[str]]] = []

    def too_long(self, messages: Sequence[Message]) -> str:
        return "the conversation has 9 tokens, room is for 8" if len(messages) > 9 else ""

    def reply(
        self,
        messages: Sequence[Message],
        show: Callable[[str], None],
        *,
        adapter: bool,
        threshold: float,
        foretell: Callable[[Asking], None],
    ) -> Reply:
        self.heard.append((adapter, threshold, [m.role for m in messages]))
        p = 0.83 if adapter else 0.07
        asking = Asking(p, p > threshold)
        foretell(asking)
        said = ""
        try:
            for piece in ("<think>hm</think>", f"How many? {HOSTILE}" if adapter else "It is 21."):
                show(piece)
                said += piece
                if self.waits is not None:
                    self.waits.wait(5)
        except KeyboardInterrupt:
            pass
        return Reply(said, asking)


def sent(page: Page, session: Session, text: str, threshold: float = 1.0) -> tuple[Session, str]:
    *_, last = page.send(session, text, threshold)
    return last


def test_both_models_answer_and_each_goes_on_with_its_own_words() -> None:
    models = TwoModels()
    page = Page(models)
    session, why = sent(page, page.begin(), "How many?", 0.5)
    assert not why
    base, trained = session.columns
    assert [line.note for line in base.lines] == ["", "P(ask) 0.07"]
    assert [line.note for line in trained.lines] == ["", "P(ask) 0.83, made to ask"]
    assert trained.lines[1].text.startswith("<think>"), "people see the thought"
    assert trained.messages[-1].text.startswith("How many?"), "the model reads none of it later"
    assert base.messages[-1] == Message("assistant", "It is 21.")
    sent(page, session, "She has 3.")
    both = ["system", "user", "assistant", "user"]
    assert models.heard[2:] == [(False, 1.0, both), (True, 1.0, both)]
    assert page.begin(session).columns[0].messages == models.opening


def test_a_model_without_an_adapter_stands_alone() -> None:
    assert [c.title for c in columns(TwoModels(adapter=False))] == ["base"]
    assert [c.adapter for c in columns(TwoModels())] == [False, True]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (" \n", "Write something first."),
        ("x" * 200_000, "Expected at most 100,000 characters, found 200,000; shorten it."),
    ],
)
def test_what_cannot_be_sent_is_said_and_changes_nothing(text: str, why: str) -> None:
    page = Page(TwoModels())
    session, said = sent(page, page.begin(), text)
    assert said == why
    assert session.columns == page.begin().columns


def test_a_conversation_that_has_no_room_is_said() -> None:
    page = Page(TwoModels())
    session = page.begin()
    for _ in range(4):
        session, why = sent(page, session, "More.")
        assert not why
    full, why = sent(page, session, "More.")
    assert why.startswith("The conversation has 9 tokens, room is for 8; begin a new")
    assert full.columns == session.columns


def test_all_that_is_said_is_text() -> None:
    page = Page(TwoModels())
    session, _ = sent(page, page.begin(), HOSTILE)
    for column in session.columns:
        assert not re.search(r"<(?!/?(?:h2|div|p|span)\b)", column.html)
        assert "\x1b" not in column.html
    assert "&lt;/script&gt;" in session.columns[1].html
    assert "**bold**" in session.columns[1].html


def test_stop_ends_both_and_keeps_what_was_said() -> None:
    waits = threading.Event()
    page = Page(TwoModels(waits=waits))
    course = page.send(page.begin(), "How many?", 1.0)
    for session, _ in course:
        if session.columns[0].lines[-1].text.startswith("<think>"):
            break
    page.stop(session)
    waits.set()
    *_, (session, why) = course
    assert not why
    base, trained = session.columns
    assert base.lines[-1].text == "<think>hm</think>", "as far as it came"
    assert trained.lines[-1].text == "(nothing)"
    again, _ = sent(page, session, "And now?")
    assert again.columns[0].messages[-1].text == "It is 21.", "the next one is not stopped"


def test_a_reply_that_nobody_waits_for_ends() -> None:
    shown: list[str] = []
    ended = threading.Event()

    def speak(show: Callable[[Any], None]) -> Reply:
        try:
            while True:
                show("word ")
                shown.append("word ")
                time.sleep(0.001)
        except KeyboardInterrupt:
            ended.set()
        return Reply("")

    course = pieces(speak)
    assert next(course) == "word "
    course.close()
    assert ended.wait(5)


def test_a_reply_that_fails_is_an_error() -> None:
    def speak(show: Callable[[Any], None]) -> Reply:
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        list(pieces(speak))


# ---------------------------------------------------------------------------- command, packaging


def test_without_gradio_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web_page.importlib.util, "find_spec", lambda name: None)
    assert run(["chat", "builtin:tiny", "--web"]) == 2
    said = capsys.readouterr().err
    assert said == f"Error: --web: expected gradio, found none; pip install '{GRADIO}'\n"


def test_the_extra_and_the_message_name_the_same_versions() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["optional-dependencies"]["web"] == [GRADIO]


@pytest.mark.parametrize("option", [["--port", "80"], ["--share"], ["--no-share"]])
def test_options_of_the_page_belong_to_it(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["chat", "builtin:tiny", *option]) == 2
    assert "belong to --web" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("no gradio is installed")
    import gradio

    blocks = web_page.build(gradio, TwoModels(), threshold=0.5)
    _, local, _ = blocks.launch(**web_page.launch_options(gradio), server_port=None, share=False)
    yield local
    blocks.close(verbose=False)


@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_two_models_in_a_browser(address: str, tmp_path: Path) -> None:
    """Side by side, on a phone, in light and dark, by keyboard, without anybody else's server."""
    browser = Browser(str(find_browser()), tmp_path / "profile")
    try:
        for width, scheme in ((1280, "light"), (375, "dark")):
            browser.size(width)
            browser.prefer(scheme)
            browser.open(address)
            browser.until("!!document.querySelector('#typed textarea')", 60)
            browser.evaluate("document.querySelector('#typed textarea').focus()")
            browser.call("Input.insertText", text=f"How many? {HOSTILE}")
            browser.press("Tab")
            assert browser.evaluate("document.activeElement.textContent.trim()") == "Send"
            assert (
                browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            )
            browser.press("Enter")
            both = "[...document.querySelectorAll('.talk')].map(e => e.textContent)"
            browser.until(f"{both}.every(text => text.includes('P(ask)'))")
            browser.until(f"{both}[1].includes('**bold**')")
            base, trained = browser.evaluate(both)
            assert "P(ask) 0.07" in base
            assert "P(ask) 0.83, made to ask" in trained
            assert "${window.pwned=4} {{value}} $x^2$ \\x1b[31m" in trained
            assert (
                browser.evaluate(
                    "document.querySelectorAll('.talk :is(img,a,b,strong,script)').length"
                )
                == 0
            )
            assert browser.evaluate("typeof window.pwned") == "undefined"
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            seen = ".talk p, .told, .known, h1, h2, #threshold label span, #threshold p, button"
            assert browser.evaluate(f"{FAINT}('{seen}')") == {}
            unnamed = (
                "[...document.querySelectorAll('input, textarea, button')]"
                ".filter(e => e.offsetParent && !(e.labels?.length || e.title || e.ariaLabel"
                " || e.textContent.trim())).length"
            )
            assert browser.evaluate(unnamed) == 0
            urls = [
                e["params"]["request"]["url"]
                for e in browser.events
                if e["method"] == "Network.requestWillBeSent"
            ]
            elsewhere = ("data:", "blob:", address)
            assert [url for url in urls if not url.startswith(elsewhere)] == []
            wrong = [e for e in browser.events if e["method"] == "Runtime.exceptionThrown"]
            assert not wrong
    finally:
        browser.close()
