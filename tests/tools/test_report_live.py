"""The report that follows a run: what is served to whom, how a run stands, and in a browser."""

import fcntl
import http.client
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_browser
from report_cases import metrics, write_run

from icpo_lite.cli import run
from icpo_lite.tools.report import page as page_module
from icpo_lite.tools.report import standing as standing_module
from icpo_lite.tools.report.live import HOST, Followed, LiveServer
from icpo_lite.tools.report.standing import standing


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Path]:
    """A run of which ten of thirty steps are done, whose lock is held."""
    folder = write_run(tmp_path / "ours", compare={})
    (folder / "finished").unlink()
    shutil.rmtree(folder / "eval")
    shutil.rmtree(folder / "eval-base")
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(rows[:10]))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield folder


@pytest.fixture
def server(training: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.setattr(page_module, "POLL_MS", 100)
    with LiveServer(Followed([training]), 0) as opened:
        worker = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.02})
        worker.start()
        yield opened
        opened.shutdown()
        worker.join()


def asked(
    server: LiveServer, path: str = "/", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def add_step(folder: Path, step: int) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics(step, 60.0)) + "\n")


# ------------------------------------------------------------------------------- what is served


def test_the_page_and_the_state_are_all_there_is(server: LiveServer, training: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in training.rglob("*")}
    status, headers, body = asked(server)
    assert status == 200
    assert b"Training: step 10 of 30" in body
    assert headers["Cache-Control"] == "no-store"
    state = json.loads(asked(server, "/state?x=1")[2])
    assert state["phase"] == "training"
    assert f'data-version="{state["version"]}"'.encode() in body
    for path in ("/recipe.yaml", "/../ours/recipe.yaml", "//etc/passwd", "/%2e%2e/recipe.yaml"):
        assert asked(server, path)[0] == 404
    assert {f: f.stat().st_mtime_ns for f in training.rglob("*")} == before, "nothing is written"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(server: LiveServer, method: str) -> None:
    status, headers, _ = asked(server, method=method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_the_page(server: LiveServer) -> None:
    status, headers, body = asked(server, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 10_000


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9000", 200),  # the end of an ssh tunnel
        ("LOCALHOST", 200),
        ("127.0.0.1:8765", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8765", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:8765@evil.example", 421),
        ("", 421),
    ],
)
def test_only_names_of_this_machine_are_answered(
    server: LiveServer, host: str, status: int
) -> None:
    """A page elsewhere may have its own name lead here, and would then read the answer."""
    assert asked(server, "/state", Host=host)[0] == status


def test_it_listens_at_this_machine_alone(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    other = "127.0.0.2"  # a machine's other addresses are as good as this one
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((other, server.server_address[1]), timeout=2)


def test_a_taken_port_is_one_line(
    server: LiveServer, training: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = server.server_address[1]
    assert run(["report", str(training), "--watch", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"Error: --port {port}: expected a free port, found one that is taken; give another, or "
        "--port 0 for any that is free\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--watch", "-o", "x.html"], "--watch writes no file"),
        (["--watch", "--png"], "--watch writes no file"),
        (["--port", "80"], "--port belongs to --watch"),
        (["--watch", "--port", "70000"], "70000"),
    ],
)
def test_options_that_do_not_go_together(
    training: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(training), *options]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused_before_anything_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(tmp_path / "none"), "--watch", "--port", "0"]) == 2
    assert "expected a run directory, found none" in capsys.readouterr().err


# --------------------------------------------------------------------------------- how it stands


def test_how_a_run_stands_is_told_from_its_files(training: Path) -> None:
    now = standing([training])
    assert (now.phase, now.words) == ("training", "Training: step 10 of 30")
    assert now.age is not None
    assert standing([training]).version == now.version
    add_step(training, 11)
    then = standing([training])
    assert (then.words, then.version == now.version) == ("Training: step 11 of 30", False)
    add_step(training, 30)
    assert standing([training]).words.startswith("All 30 steps are done; what comes after")
    with (training / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "re')
    assert "30 steps" in standing([training]).words, "half a line is none"


def test_a_run_without_a_process_has_stopped_or_ended(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ours", compare={})
    assert standing([folder]).words == "The run has ended after 30 steps; nothing more will come."
    (folder / "finished").unlink()
    assert standing([folder]).phase == "files", "no lock: it is nothing that was trained here"
    (folder / "lock").write_text("1\n")  # an old process of that number may be another's now
    stopped = standing([folder])
    assert stopped.phase == "stopped"
    assert f"icpo-lite train {folder}/recipe.yaml goes on from there" in stopped.words
    shutil.rmtree(folder)
    assert (standing([folder]).phase, standing([folder]).age) == ("vanished", None)


def test_without_a_list_of_locks_the_process_is_looked_for(
    training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_module, "LOCKS", training / "none")
    assert standing([training]).phase == "training", "this process is alive"
    (training / "lock").write_text("999999999\n")
    assert standing([training]).phase == "stopped"
    for text in ("", "soon", "-1", "0", "9" * 30):
        (training / "lock").write_text(text)
        assert standing([training]).phase == "stopped"


def test_several_runs_are_each_said(training: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", compare={})
    now = standing([other, training])
    assert now.phase == "training"
    assert now.words == (
        "other: The run has ended after 30 steps; nothing more will come. "
        "ours: Training: step 10 of 30"
    )


def test_what_a_run_that_vanishes_had_is_still_served(server: LiveServer, training: Path) -> None:
    assert b"step 10" in asked(server)[2]
    shutil.rmtree(training)
    assert json.loads(asked(server, "/state")[2])["phase"] == "vanished"
    status, _, body = asked(server)
    assert status == 200
    assert b'id="training"' in body


# ---------------------------------------------------------------------------------- in a browser


@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_news_leave_the_place_the_folds_and_a_selection_alone(
    server: LiveServer, training: Path, tmp_path: Path
) -> None:
    browser = Browser(str(find_browser()), tmp_path / "profile")
    try:
        browser.size(375)
        browser.open(server.address)
        browser.until("document.getElementById('live').dataset.state === 'training'")
        browser.evaluate(
            "(() => { window.same = 1; document.getElementById('recipe-1').open = true;"
            " document.forms.smoothing.elements.window.value = '5';"
            " const pre = document.querySelector('#recipe-1 pre');"
            " pre.scrollIntoView({behavior: 'instant'}); getSelection().selectAllChildren(pre) })()"
        )
        curve = "document.querySelector('#curve-reward path[data-series]').getAttribute('d')"
        before, top = browser.evaluate(f"[{curve}, scrollY]")
        assert top > 1000
        selected = "getSelection().toString().length"
        length = browser.evaluate(selected)
        add_step(training, 11)
        browser.until(f"{curve} !== {json.dumps(before)}")
        browser.until("document.getElementById('live').textContent.includes('step 11 of 30')")
        assert browser.evaluate("window.same") == 1, "it is the same page"
        assert browser.evaluate("document.getElementById('recipe-1').open")
        assert browser.evaluate("document.forms.smoothing.elements.window.value") == "5"
        assert browser.evaluate(selected) == length > 100
        assert abs(browser.evaluate("scrollY") - top) < 3
        # The first evaluation brings sections and the reader, and the fold stays open.
        donor = write_run(tmp_path / "donor", compare={})
        shutil.copytree(donor / "eval-base", training / "eval-base")
        shutil.copytree(donor / "eval", training / "eval")
        browser.until("document.forms.filters?.elements.count.value === '84 of 84'")
        assert browser.evaluate("document.getElementById('recipe-1').open")
        browser.evaluate("document.querySelector('#entries > .entry').open = true")
        (training / "finished").write_text("{}")
        (training / "lock").unlink()
        browser.until("document.getElementById('live').dataset.state === 'ended'")
        assert browser.evaluate("document.querySelector('#entries > .entry').open")
        shutil.rmtree(training)
        browser.until("document.getElementById('live').dataset.state === 'vanished'")
        assert browser.evaluate("document.querySelectorAll('#entries > .entry').length") == 25
        noise = [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown",)]
        assert not noise
        assert browser.evaluate("document.documentElement.scrollWidth") <= 375
        server.shutdown()
        server.server_close()
        browser.until("document.getElementById('live').dataset.state === 'gone'")
        assert "does not answer any more" in browser.evaluate(
            "document.getElementById('live').textContent"
        )
    finally:
        browser.close()
