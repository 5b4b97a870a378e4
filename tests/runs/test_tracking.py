"""Trackers: TensorBoard for real, wandb and Trackio by fakes with their real signatures."""

import builtins
import sys
from types import SimpleNamespace

import pytest

from icpo_lite.core.console import Display
from icpo_lite.core.errors import UsageError
from icpo_lite.core.files import read_metrics
from icpo_lite.recipe import load_recipe
from icpo_lite.runs import trackers
from icpo_lite.runs import train as run_module
from icpo_lite.runs.trackers import Tracking, require_trackers, start_tracking

INFO = {"started": "2026-11-21T10:00:00Z", "from_step": 0}
RESUMED = {"started": "2026-11-21T12:00:00Z", "from_step": 4, "earlier": [INFO]}


class Calls(list):
    def note(self, *what):
        self.append(what)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """wandb 0.31's `init`, `Run.log` and `Run.finish`, as far as keywords go."""
    calls = Calls()

    class Run:
        def log(self, data, step=None, commit=None):
            calls.note("log", data, step)

        def finish(self, exit_code=None):
            calls.note("finish")

    def init(*, project, name, id, resume, dir, config, mode):
        calls.note("init", {"project": project, "name": name, "id": id, "mode": mode})
        assert resume == "allow"
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return calls


@pytest.fixture
def trackio(monkeypatch):
    """Trackio 0.43's module functions."""
    calls = Calls()

    def init(project, name=None, *, config=None, resume="never"):
        calls.note("init", project, name, resume)

    def log(metrics, step=None):
        calls.note("log", metrics, step)

    fake = SimpleNamespace(init=init, log=log, finish=lambda: calls.note("finish"))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    return calls


def begin(names, folder, info=INFO, said=None, config=None):
    return start_tracking(
        names, folder, info, config or {}, (said if said is not None else []).append
    )


# ------------------------------------------------------------------------------- TensorBoard


def read_events(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_a_run_and_its_resume_are_one_curve_in_tensorboard(tmp_path):
    """The run goes back to step 2 and on to 4: no step twice, all as in metrics.jsonl."""
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    small = ["prompts_per_step=2", "num_generations=2", "compare={}", "evaluation.enabled=false"]
    small += ["device=cpu", "max_completion_length=16", "report_to=tensorboard", "save_steps=2"]

    def train(*more):
        chosen = load_recipe("tiny", [f"output_dir={folder}", *small, *more])
        shown = Display(total=1, live=False, file=(tmp_path / "said").open("a"))
        run_module.train(chosen, shown, extend=True)

    train("max_steps=3")
    train("max_steps=4", f"resume_from_checkpoint={folder / 'checkpoint-2'}")
    curves = read_events(folder / "tensorboard")
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for name in ("reward", "learning_rate"):
        assert [step for step, _ in curves[name]] == [1, 2, 3, 4]
        assert [v for _, v in curves[name]] == pytest.approx([row[name] for row in rows])


# ------------------------------------------------------------------------- wandb and Trackio


def test_wandb_goes_on_in_the_same_run_and_offline_without_a_login(tmp_path, wandb):
    first = begin(["wandb"], tmp_path / "tiny")
    first.log(1, {"reward": 0.5, "kl": float("nan"), "note": "words", "flag": True})
    first.close()
    begin(["wandb"], tmp_path / "tiny", RESUMED).log(5, {"reward": 0.6})
    begin(["wandb"], tmp_path / "tiny", {**RESUMED, "from_step": 0})  # begun anew
    inits = [options for kind, *rest in wandb if kind == "init" for options in rest]
    assert inits[0] == inits[1]
    assert inits[0]["id"] != inits[2]["id"]
    assert (inits[0]["project"], inits[0]["name"], inits[0]["mode"]) == (
        *("icpo-lite", "tiny"),
        "offline",
    )
    assert ("log", {"reward": 0.5, "flag": 1.0}, 1) in wandb
    assert ("log", {"reward": 0.6}, 5) in wandb
    assert ("finish",) in wandb


@pytest.mark.parametrize("how", ["key", "netrc", "mode"])
def test_what_the_user_set_up_for_wandb_holds(tmp_path, wandb, monkeypatch, how):
    if how == "netrc":
        (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    else:
        monkeypatch.setenv("WANDB_API_KEY" if how == "key" else "WANDB_MODE", "disabled")
    begin(["wandb"], tmp_path / "tiny")
    assert wandb[0][1]["mode"] is None


def test_trackio_resumes_by_name(tmp_path, trackio, monkeypatch):
    monkeypatch.delenv("TRACKIO_PROJECT", raising=False)
    for info in (INFO, RESUMED):
        run = begin(["trackio"], tmp_path / "tiny", info)
        run.log(3, {"reward": 1.0})
        run.close()
    first, second = (call for call in trackio if call[0] == "init")
    assert first == second
    assert first[1] == "icpo-lite"
    assert first[2].startswith("tiny-")
    assert first[3] == "allow"
    assert trackio.count(("log", {"reward": 1.0}, 3)) == 2
    assert trackio.count(("finish",)) == 2


def test_secrets_of_the_recipe_reach_no_tracker(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(trackers.TRACKERS, "wandb", lambda run: seen.append(run.config))
    begin(["wandb"], tmp_path, config={"endpoint": {"api_key": "sk-secret-123456"}, "seed": 3})
    assert seen == [{"endpoint": {"api_key": "***"}, "seed": 3}]


# ------------------------------------------------------------------------------------ failing


class Failing:
    def __init__(self, when):
        self.when = when
        if when == "start":
            raise ConnectionError("no network\nsecond line")

    def log(self, step, metrics):
        if self.when == "log":
            raise OSError("disk full, token hf_abcdefghijkl")

    def close(self):
        if self.when == "close":
            raise RuntimeError


@pytest.mark.parametrize(
    ("when", "line"),
    [
        ("start", "warning: wandb is left out from here on: no network"),
        ("log", "warning: wandb is left out from here on: disk full, token ***"),
        ("close", "warning: wandb is left out from here on: RuntimeError"),
    ],
)
def test_a_failing_tracker_is_said_once_and_the_others_go_on(
    tmp_path, trackio, monkeypatch, when, line
):
    monkeypatch.setitem(trackers.TRACKERS, "wandb", lambda run: Failing(when))
    said = []
    run = begin(["wandb", "trackio"], tmp_path, said=said)
    for step in (1, 2, 3):
        run.log(step, {"reward": 0.0})
    run.close()
    assert said == [line]
    assert sum(call[0] == "log" for call in trackio) == 3
    assert trackio[-1] == ("finish",)


def test_nothing_is_imported_that_no_recipe_names(tmp_path, monkeypatch):
    before = builtins.__import__

    def importing(name, *rest, **kept):
        assert name.partition(".")[0] not in ("wandb", "trackio", "tensorboard")
        return before(name, *rest, **kept)

    monkeypatch.setattr(builtins, "__import__", importing)
    assert begin([], tmp_path).working == {}
    Tracking(print).log(1, {"reward": 1.0})


def test_a_tracker_that_is_missing_stops_the_run_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'icpo-lite\[tracking\]'"):
        require_trackers(("trackio",))
    chosen = load_recipe("tiny", [f"output_dir={tmp_path / 'run'}", "report_to=[wandb]"])
    with pytest.raises(UsageError, match="report_to: wandb is not installed"):
        run_module.train(chosen, Display(total=1, live=False))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("none", ()),
        ("[]", ()),
        ("wandb", ("wandb",)),
        ("[tensorboard, trackio]", ("tensorboard", "trackio")),
        ("all", ("tensorboard", "wandb", "trackio")),
    ],
)
def test_report_to_is_written_as_in_trl(written, read):
    assert load_recipe("tiny", [f"report_to={written}"]).report_to == read
