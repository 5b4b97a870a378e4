"""The report in a real browser: nothing fails, nothing is loaded, filters work, phones fit."""

import csv
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from browser import FAINT, Browser, find_browser
from report_cases import SETTINGS, conversation, lines, metrics, write_later_judgement, write_run

from icpo_lite.tools.report.charts import smooth
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
    choose(page, "size", "200")
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
    assert page.evaluate("document.forms.filters.elements.count.value") == "126 of 126"
    choose(page, "size", "200")
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
    read = "p, li, figcaption, .badge, .type, .note, .name, .tick, td, th, a, .id, label, button"
    ratios = page.evaluate(f"{FAINT}('{read}')")
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


# ----------------------------------------------------------------- pages, order, links, CSV, curves


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,040 conversations of one model, each with a word of its own."""
    folder = write_run(tmp_path_factory.mktemp("large") / "ours", compare={})
    rows = [
        conversation(setting, i, run, float(i % 2), f"What of word{i}x{run} <b>&amp;")
        for setting in SETTINGS
        for i in range(34)
        for run in range(10)
    ]
    lines(folder / "eval" / "conversations.jsonl", rows)
    (folder / "eval-base" / "eval.json").unlink()
    return make_report([folder], folder / "report.html", Options()).path


def saved(page: Browser, button: str) -> str:
    """The text of the file that a button saves."""
    return page.evaluate(
        "new Promise(done => { const make = URL.createObjectURL; URL.createObjectURL = (blob) => {"
        " URL.createObjectURL = make; blob.text().then(done); return make(blob) };"
        f" {button}.click() }})"
    )


def test_thousands_are_paged_searched_ordered_and_saved(browser: Browser, large: Path) -> None:
    browser.size(1280)
    browser.open(large)
    count = "document.forms.filters.elements.count.value"
    browser.until(f"{count} === '2040 of 2040'")
    assert browser.evaluate(f"{SHOWN}.length") == 25
    assert large.stat().st_size < 1_500_000
    browser.evaluate("document.querySelector('#pages [name=on]').click()")
    assert browser.evaluate("document.querySelector('#pages output').value") == "2 of 82"
    places = browser.evaluate(f"{SHOWN}.map(e => Number(e.dataset.place))")
    assert places == list(range(25, 50)), "in the order in which they were judged"
    spent = browser.evaluate(
        "(() => { const began = performance.now(); const e = document.forms.filters.elements.text;"
        " e.value = 'Word33x9 <b>&amp;'; e.dispatchEvent(new Event('input', {bubbles: true}));"
        " return performance.now() - began })()"
    )
    assert browser.evaluate(count) == f"{len(SETTINGS)} of 2040"
    assert spent < 3000, "a search of all takes a moment, not seconds"
    choose(browser, "text", "")
    choose(browser, "order", "-score")
    assert set(browser.evaluate(f"{SHOWN}.map(e => e.dataset.score)")) == {"1.0"}
    choose(browser, "order", "score")
    assert set(browser.evaluate(f"{SHOWN}.map(e => e.dataset.score)")) == {"0.0"}
    choose(browser, "text", "word7x3 ")
    rows = list(csv.reader(io.StringIO(saved(browser, "document.forms.filters.elements.csv"))))
    assert len(rows) == 1 + len(SETTINGS)
    assert rows[0][:6] == ["judgement", "setting", "problem", "run", "answer", "model"]
    assert rows[1][2:6] == ["problem-7", "3", "7", "icpo"]
    assert "What of word7x3 <b>&amp;" in rows[1][-1], "texts are as they were said"


def test_an_address_leads_to_one_conversation(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.until("document.forms.filters.elements.count.value === '2040 of 2040'")
    browser.evaluate("document.querySelector('#pages [name=on]').click()")
    link = "document.querySelectorAll('#entries > .entry')[7].querySelector('.body a').href"
    address = browser.evaluate(link)
    assert address.startswith(large.as_uri() + "#talk-")
    browser.open("about:blank")
    browser.open(address)
    browser.until("!!document.querySelector('#entries > .entry[open]')")
    assert browser.evaluate("document.querySelector('#pages output').value") == "2 of 82"
    opened = "document.querySelector('#entries > .entry[open]')"
    assert browser.evaluate(f"{opened}.dataset.place") == "32"
    assert 0 <= browser.evaluate(f"{opened}.getBoundingClientRect().top") < 300
    assert browser.evaluate(f"document.activeElement.parentNode === {opened}")


def test_a_table_and_a_formula_are_saved_as_text(page: Browser) -> None:
    button = "document.querySelector('#results .scroll [data-mine]')"
    text = saved(page, button)
    assert "SHARDED, base" in text
    page.evaluate("document.querySelector('#results td').textContent = '=1+2,\"x\"'")
    assert '"\'=1+2,""x"""' in saved(page, button)
    rows = list(csv.reader(io.StringIO(saved(page, "document.forms.smoothing.elements.csv"))))
    assert rows[0][:4] == ["run", "step", "Reward", "Accuracy"]
    assert rows[1][0] == "a-rival-with-a-very-long-name-that-no-phone-has-room-for"
    assert [rows[31][0], rows[31][1], rows[31][3]] == ["icpo", "1", "51"]


@pytest.mark.parametrize("window", [1, 5, 25])
def test_smoothing_draws_what_our_own_smoothing_would(page: Browser, window: int) -> None:
    page.evaluate(
        f"(() => {{ const e = document.forms.smoothing.elements.window; e.value = '{window}';"
        " e.dispatchEvent(new Event('input', {bubbles: true})) })()"
    )
    drawn, plot, y = page.evaluate(
        "(() => { const svg = document.querySelector('#curve-reward svg');"
        " const values = JSON.parse(document.getElementById('values').textContent);"
        " return [svg.querySelector('path[data-series=icpo]').getAttribute('d'), svg.dataset.plot,"
        " values['curve-reward'].y] })()"
    )
    found = [float(pair.split()[1]) for pair in drawn[1:].split("L")]
    *_, top, bottom = map(float, plot.split())
    logged = [(float(step), metrics(step, 60.0)["reward"]) for step in range(1, 31)]
    wanted = [
        bottom - (v - y[0]) / (y[1] - y[0]) * (bottom - top) for _, v in smooth(logged, window)
    ]
    assert found == pytest.approx(wanted, abs=0.11)


def test_everything_can_be_reached_and_has_a_name(page: Browser) -> None:
    page.evaluate("document.body.focus()")
    reached = []
    for _ in range(14):
        page.press("Tab")
        reached.append(
            page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.className === 'skip' ? 'skip' : e.id || e.hash || e.name || e.tagName,"
                " s.outlineStyle !== 'none'] })()"
            )
        )
    assert [name for name, _ in reached[:3]] == ["skip", "theme", "#verdict"]
    assert all(seen for _, seen in reached), "the focus is seen everywhere"
    unnamed = page.evaluate(
        "[...document.querySelectorAll('select, input, button, [role=region]')]"
        ".filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()"
        ")).map(e => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []
    order = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert all(b - a <= 1 for a, b in pairwise(order)), "no level is left out"
