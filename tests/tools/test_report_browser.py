"""The report in a real browser: nothing fails, nothing is loaded, filters work, phones fit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_browser
from report_cases import write_later_judgement, write_run

from icpo_lite.tools.report.page import Options, make_report

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")

SHOWN = "[...document.querySelectorAll('#entries > .entry')].filter(e => !e.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    long_name = "a-rival-with-a-very-long-name-that-no-phone-has-room-for"
    write_run(folder / f"ours-{long_name}", p=35.0, share_underspecified=0.0, compare={})
    ours = write_run(folder / "ours", compare={long_name: "x.yaml"})
    write_later_judgement(ours)
    return make_report([ours], folder / "report.html", Options()).path


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    browser.size(1280)
    browser.prefer("light")
    browser.open(report)
    return browser


def choose(page: Browser, name: str, value: str) -> None:
    page.evaluate(
        f"(() => {{ const e = document.forms.filters.elements['{name}']; e.value = '{value}';"
        " e.dispatchEvent(new Event('input', {bubbles: true})) })()"
    )


def test_nothing_fails_and_nothing_is_loaded(page: Browser, report: Path) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    methods = [event["method"] for event in page.events]
    assert "Runtime.exceptionThrown" not in methods
    assert "Log.entryAdded" not in methods, page.events
    assert "Runtime.consoleAPICalled" not in methods
    urls = [
        e["params"]["request"]["url"]
        for e in page.events
        if e["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in urls if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("typeof window.pwned") == "undefined", "a completion ran as code"
    assert page.evaluate("document.querySelectorAll('img').length") == 0


def test_filters_show_what_fits(page: Browser) -> None:
    everything = page.evaluate(f"{SHOWN}.length")
    assert everything == 126
    choose(page, "setting", "sharded")
    assert set(page.evaluate(f"{SHOWN}.map(e => e.dataset.setting)")) == {"sharded"}
    choose(page, "outcome", "won")
    won = page.evaluate(f"{SHOWN}.map(e => JSON.parse(e.dataset.outcomes).base)")
    assert won == ["won"] * 12, "problems 2 to 5: two runs at the end, one later"
    assert page.evaluate("document.forms.filters.elements.count.value") == "12 of 126"
    choose(page, "outcome", "lost")
    assert page.evaluate(f"{SHOWN}.length") == 0
    page.evaluate("document.forms.filters.reset()")
    page.evaluate("new Promise(done => setTimeout(done, 50))")
    assert page.evaluate(f"{SHOWN}.length") == everything
    choose(page, "type", "answer_attempt")
    kinds = set(page.evaluate(f"{SHOWN}.map(e => e.dataset.setting)"))
    assert "underspecified" not in kinds
    assert "sharded" in kinds
    choose(page, "type", "")
    choose(page, "text", "(problem 4)")
    assert page.evaluate(f"{SHOWN}.length") == 21


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_does_not_scroll_sideways(page: Browser, report: Path, width: int) -> None:
    page.size(width)
    page.open(report)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "[...document.querySelectorAll('h1,h2,h3,h4,p,figure,svg,dl,summary,form,.scroll,pre')]"
        f".filter(e => e.getBoundingClientRect().right > {width} + 1)"
        ".filter(e => !e.closest('.scroll') || e.matches('.scroll'))"
        ".map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 40))"
    )
    assert page.evaluate(outside) == []


def test_light_and_dark_follow_the_system_and_the_button(page: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.prefer("dark")
    dark = page.evaluate(paper)
    assert dark == "rgb(20, 23, 27)"
    page.prefer("light")
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(paper) == dark
    assert page.evaluate("document.getElementById('theme').textContent") == "Light"
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Browser, report: Path, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for everything that is read, names of lines and badges included."""
    page.prefer(scheme)
    page.open(report)
    ratios = page.evaluate(
        """(() => {
          const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = (c) => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92
            : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
          const ground = (e) => { for (; e; e = e.parentElement) {
            const c = rgb(getComputedStyle(e).backgroundColor);
            if (c.length === 3 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
          const found = {};
          for (const e of document.querySelectorAll(
              'p, figcaption, .badge, .type, .note, .name, .tick, td, th, a, .id, label, button')) {
            const style = getComputedStyle(e);
            const ink = rgb(e instanceof SVGElement ? style.fill : style.color).slice(0, 3);
            const [a, b] = [light(ink), light(ground(e))];
            const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < 4.5) found[e.getAttribute('class') || e.tagName] = ratio;
          }
          return found })()"""
    )
    assert ratios == {}


def test_values_are_read_off_by_keyboard(page: Browser) -> None:
    read = page.evaluate(
        """(() => { const svg = document.querySelector('#curve-accuracy svg'); svg.focus();
          svg.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}));
          const out = svg.parentNode.querySelector('output').value;
          return [document.activeElement === svg, out] })()"""
    )
    assert read[0]
    assert read[1].startswith("step 29: icpo 79, ")


def test_without_scripts_everything_can_be_read(browser: Browser, report: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        document = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]

        def count(selector: str) -> int:
            found = browser.call("DOM.querySelectorAll", nodeId=document, selector=selector)
            return len(found["nodeIds"])

        assert count("svg[role=img] .line") > 10
        assert count("#entries > .entry:not([hidden])") == 126
        assert count("#results td") > 50
        assert count("[data-js]") == 0, "the filters, which need a script, stay hidden"
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
