"""The fault drill itself: a few of its faults, and that it would see what it looks for."""

import os

import pytest
from reliability import drill as drills

#: CI asks for others every time.
FAULTS = int(os.environ.get("ICPO_DRILL_FAULTS", "6"))
SEED = int(os.environ.get("ICPO_DRILL_SEED", "0"))


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    return drills.Drill(tmp_path_factory.mktemp("drill") / "", seed=SEED)


@pytest.mark.timeout(900)
def test_a_few_faults_lose_nothing(drill):
    for _ in range(FAULTS):
        drill.one()
    assert sum(drill.done.values()) == FAULTS
    assert drill.wrong == []


def test_the_run_that_is_drilled_learns(drill):
    """Else any adapter would be the undisturbed one."""
    from icpo_lite.core.files import read_metrics

    assert any(row["grad_norm"] > 0 for row in read_metrics(drill.source / "run"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (lambda *_: os._exit(1), "no word on what went wrong"),
        (lambda *_: os._exit(7), "exit code 7"),
        (lambda *_: 1 / 0, "a traceback"),
        (lambda *_: os._exit(0), "is lost"),
        (
            lambda job, place, *_: ((place / "q.jsonl").unlink(), os._exit(0)),
            "an input has changed",
        ),
    ],
)
def test_what_goes_wrong_would_be_seen(body, words, drill, monkeypatch, capsys):
    before = list(drill.wrong)

    def told(job, place, fault, log):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        body(job, place, fault, log)

    monkeypatch.setattr(drills, "command", told)
    drill.one()
    assert words in drill.wrong.pop()
    assert drill.wrong == before


def test_a_process_that_is_left_would_be_seen(tmp_path):
    import subprocess
    import sys

    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path)]
    ) as p:
        assert drills.left_running(tmp_path, seconds=0.5) >= {p.pid}
        p.kill()
