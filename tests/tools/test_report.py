"""The report: numbers of figures and tables, what is read, escaping, runs, missing files."""

import base64
import hashlib
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_cases import (
    HOSTILE,
    completions,
    conversation,
    lines,
    summary,
    write_later_judgement,
    write_run,
)

from icpo_lite.cli import run
from icpo_lite.core.errors import UsageError
from icpo_lite.tools.report import reader
from icpo_lite.tools.report.charts import (
    Chart,
    Series,
    number,
    pool,
    smooth,
    thin,
    ticks,
    window_of,
)
from icpo_lite.tools.report.figures import paper_charts, slots, training_charts
from icpo_lite.tools.report.page import Options, make_report
from icpo_lite.tools.report.reader import MOST_OF_A_TURN, select, some_of, training_steps
from icpo_lite.tools.report.run_files import read_sources
from icpo_lite.tools.report.svg import BOTTOM, HEIGHT, LEFT, TOP, draw
from icpo_lite.tools.report.tables import comparison_lines, curve_lines, paired_differences

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Tags with attributes, and all text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._raw = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if self._raw == "script":
            self.scripts.append(data)
        elif not self._raw:
            self.text += data


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A run with a other beside it and a later judgement."""
    write_run(tmp_path / "ours-rlvr", p=35.0, share_underspecified=0.0, compare={})
    folder = write_run(tmp_path / "ours")
    write_later_judgement(folder)
    return folder


def page_of(folders: list[Path], output: Path, conversations: int = 200) -> Page:
    return Page(make_report(folders, output, Options(conversations)).path.read_text())


# ----------------------------------------------------------------------------------- arithmetic


def test_smoothing_is_the_mean_of_the_points_around() -> None:
    """Window 3 over 3, 0, 6, 9: (3+0)/2, (3+0+6)/3, (0+6+9)/3, (6+9)/2."""
    points = [(1.0, 3.0), (2.0, 0.0), (5.0, 6.0), (9.0, 9.0)]
    assert smooth(points, 3) == ((1.0, 1.5), (2.0, 3.0), (5.0, 5.0), (9.0, 7.5))
    assert smooth(points, 1) == tuple(points)
    assert [window_of(n) for n in (1, 19, 20, 80, 100_000)] == [1, 1, 3, 9, 51]


def test_thinning_keeps_ends_and_peaks() -> None:
    points = [(float(i), 0.0) for i in range(10_000)]
    points[4321], points[7777] = (4321.0, 9.0), (7777.0, -9.0)
    kept = thin(points, 100)
    assert len(kept) <= 100
    assert {points[0], points[-1], points[4321], points[7777]} <= set(kept)
    assert list(kept) == sorted(kept)
    assert thin(points[:50], 100) == tuple(points[:50])


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (-0.09, 0.11, [-0.05, 0, 0.05, 0.1]),
        (1, 80, [20, 40, 60, 80]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == wanted


def test_numbers_are_short() -> None:
    values = (0, 1234.5, 12.345, 0.04, 2e-6, 100)
    assert [number(v) for v in values] == ["0", "1,234", "12.3", "0.04", "2e-06", "100"]


# -------------------------------------------------------------------------------------- drawing


def test_a_line_lies_where_its_numbers_say() -> None:
    """x 0 to 10 and y 0 to 4: (5, 1) is in the middle and at a quarter of the height."""
    chart = Chart(
        "k", "T", "x", "y", (Series("a", 1, ((0, 0), (5, 1), (10, 4))),), y_range=(0.0, 4.0)
    )
    svg = ElementTree.fromstring(str(draw(chart)).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" '))
    (line,) = (p for p in svg.iter(f"{SVG}path") if p.get("class") == "line s1 d1")
    points = [tuple(map(float, pair.split())) for pair in str(line.get("d"))[1:].split("L")]
    right = float(str(svg.get("data-plot")).split()[1])
    bottom = HEIGHT - BOTTOM
    wanted = [(LEFT, bottom), ((LEFT + right) / 2, bottom - (bottom - TOP) / 4), (right, TOP)]
    for found, expected in zip(points, wanted, strict=True):
        assert found == pytest.approx(expected, abs=0.11)


def test_intervals_bars_and_categories_are_drawn_side_by_side() -> None:
    series = (
        Series("a", 0, ((0, 10), (1, 20)), intervals=((0, 5, 15), (1, 15, 25))),
        Series("b", 1, ((0, 40),), intervals=((0, 30, 50),)),
    )
    chart = Chart("k", "T", "x", "y", series, categories=("one", "two"), y_range=(0, 100))
    for marks, shapes, cls in (("dots", 3, "dot"), ("bars", 3, "fill")):
        svg = str(draw(Chart(**{**chart.__dict__, "marks": marks})))
        assert len(re.findall(f'class="{cls} s', svg)) == shapes
        whiskers = re.findall(r'class="whisker s\d" d="M([\d.]+) ([\d.]+)V([\d.]+)"', svg)
        assert len(whiskers) == 3
        tall = abs(float(whiskers[2][1]) - float(whiskers[2][2]))
        assert tall == pytest.approx((HEIGHT - BOTTOM - TOP) * 0.2, abs=0.21)
        assert whiskers[0][0] != whiskers[2][0], "b stands beside a"


def test_names_in_a_chart_are_escaped_and_described() -> None:
    svg = str(draw(Chart("k", HOSTILE, "x", "y", (Series(HOSTILE, 1, ((0, 1), (1, 2))),))))
    assert "<script" not in svg
    assert "<img" not in svg
    described = ElementTree.fromstring(svg).findtext("desc")
    assert described is not None
    assert described.endswith("from 1 at 0 to 2 at 1.")


# ---------------------------------------------------------------------------- reading, figures


def test_rivals_bases_and_later_judgements_are_found(ours: Path) -> None:
    sources = read_sources([ours])
    assert [run.name for run in sources.runs] == ["icpo", "rlvr"]
    first, later = sources.judgements
    assert [model.name for model in first.models] == ["base", "rlvr", "icpo"]
    assert (first.of, first.compared) == ("icpo", ["base", "rlvr"])
    assert [model.name for model in later.models] == ["base", "icpo"]
    assert later.models[1].conversations.is_file()
    assert slots(sources.runs, sources.judgements) == {"base": 0, "icpo": 1, "rlvr": 2}
    assert sorted(sources.runs[0].completions) == [1, 2, 29, 30]


def test_several_runs_are_laid_over_one_another(ours: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "elsewhere" / "ours", p=55.0, steps=40, compare={})
    sources = read_sources([ours, other, ours])
    assert [run.name for run in sources.runs] == ["ours", "ours (2)", "rlvr of ours"]
    names = [model.name for model in sources.judgements[0].models]
    assert names == ["base", "ours (2)", "rlvr of ours", "ours"], "equal bases take one column"
    charts = training_charts(sources.runs, slots(sources.runs, sources.judgements))
    assert [s.name for s in charts[0].series] == ["ours", "ours (2)", "rlvr of ours"]
    assert [s.points[-1][0] for s in charts[0].series] == [30, 40, 30]
    page = page_of([ours, other], tmp_path / "r.html")
    assert "ours, ours (2), rlvr of ours" in page.text


def test_a_curve_holds_the_logged_numbers(ours: Path) -> None:
    sources = read_sources([ours])
    charts = {c.key: c for c in training_charts(sources.runs, {"icpo": 1, "rlvr": 2})}
    accuracy = charts["curve-accuracy"].series[0]
    assert accuracy.raw[:2] == ((1.0, 51.0), (2.0, 52.0)), "shares are shown in per cent"
    assert accuracy.points[4] == (5.0, pytest.approx(55.0))
    (cells,) = (line.cells for line in curve_lines(sources.runs) if "Accuracy" in line.label)
    assert cells[0].value == "55.5 → 75.5", "means of steps 1 to 10 and 21 to 30"


def test_the_papers_figures_hold_the_numbers_of_eval_json(ours: Path) -> None:
    judgement = read_sources([ours]).judgements[0]
    first, declines, accuracy = paper_charts(1, judgement, {"base": 0, "icpo": 1, "rlvr": 2})
    own = first.series[2]
    assert [y for _, y in own.points] == [20.0, 20.0, 40.0, 10.0, 5.0, 5.0]
    assert first.categories == ("1st", "2nd", "3rd", "4th", "5th", "never")
    assert declines.series[2].points[0] == (0.0, 60.0)
    assert declines.series[2].intervals[0] == (0.0, 56.0, 64.0)
    assert len(declines.series[2].points) == 4, "a fifth without replies has no point"
    assert [x for x, _ in accuracy.series[0].points] == [0, 1, 2, 3], "null is left out"


def test_tables_hold_the_numbers_of_eval_json(ours: Path) -> None:
    judgement = read_sources([ours]).judgements[0]
    found = {(line.group, line.label): line.cells for line in comparison_lines(judgement)}
    cell = found["SHARDED", "P"][2]
    assert (cell.value, cell.interval) == ("60.0", "55.0 to 65.0")
    assert found["FULL", "P"][0].value == "35.0"
    assert found["Calibration", "AUROC, q* from q"][0].interval == "0.87 to 0.95"
    rows, unpaired = paired_differences(judgement)
    (sharded,) = (r for r in rows if r["setting"] == "sharded" and r["other"] == "base")
    assert (sharded["value"], sharded["won"], sharded["lost"]) == (pytest.approx(35.0), 6, 0)
    assert not unpaired


def test_other_problems_are_not_paired(ours: Path) -> None:
    figures = summary(25.0)
    figures["settings"]["sharded"]["scores"] = {"another": 1.0}
    (ours / "eval-base" / "eval.json").write_text(json.dumps(figures))
    rows, unpaired = paired_differences(read_sources([ours]).judgements[0])
    assert unpaired == ["base was judged on other problems in SHARDED"]
    assert {r["setting"] for r in rows if r["other"] == "base"} >= {"full", "recap"}


# --------------------------------------------------------------------------------------- reader


def test_won_and_lost_are_of_the_same_problem_and_run(ours: Path) -> None:
    judgement = read_sources([ours]).judgements[0]
    chosen = select([judgement], 1000, [])
    assert (len(chosen.entries), chosen.total) == (84, 84)
    found = {(e.setting, e.problem_id, e.run): e for e in chosen.entries}
    assert found["sharded", "problem-0", 1].outcomes == {"base": "both right", "rlvr": "both right"}
    assert found["sharded", "problem-1", 0].outcomes["base"] == "both wrong"
    won = found["sharded", "problem-3", 1]
    assert won.outcomes["base"] == "won"
    assert [talk.model for talk in won.talks] == ["icpo", "base", "rlvr"]
    assert won.own.types == ("clarification", "answer_attempt")
    assert found["underspecified", "problem-1", 0].own.ending == "asked"


def test_few_places_are_shared_by_settings_and_outcomes(ours: Path) -> None:
    judgement = read_sources([ours]).judgements[0]
    chosen = select([judgement], 19, [])
    assert (len(chosen.entries), chosen.total) == (19, 84)
    kinds = {(e.setting, e.outcomes["base"]) for e in chosen.entries}
    assert len(kinds) == 19, "six settings with three outcomes, one with one"


def test_size_is_bounded(ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [conversation("full", i, 0, 1.0, "x" * 50_000) for i in range(40)]
    lines(ours / "eval" / "conversations.jsonl", rows)
    monkeypatch.setattr(reader, "MOST_IN_ALL", 50_000)
    chosen = select(read_sources([ours]).judgements[:1], 100, [])
    assert 5 <= len(chosen.entries) < 15
    assert all(len(t.text) < MOST_OF_A_TURN + 50 for e in chosen.entries for t in e.own.turns)
    shutil.rmtree(ours / "eval-dev")
    page = page_of([ours], tmp_path / "r.html", 100)
    assert f"{len(chosen.entries)} of 40 conversations are shown" in page.text
    assert "(46,000 more characters)" in page.text


def test_first_and_last_steps_show_their_best_and_worst(ours: Path) -> None:
    steps = [s for s in training_steps(read_sources([ours]).runs) if s.run == "icpo"]
    assert [s.number for s in steps] == [1, 2, 29, 30]
    complete, under = steps[0].groups
    assert [r.reward for r in complete.replies] == [1.0, 0.0]
    assert under.removed == ("Ann has 3 eggs.",)


# ----------------------------------------------------------------------------------------- page


def test_everything_from_the_model_is_escaped(ours: Path, tmp_path: Path) -> None:
    hostile = write_run(tmp_path / "o<b>\"'&", p=30.0, compare={}, model_name_or_path=HOSTILE)
    page = page_of([hostile, ours], tmp_path / "r.html")
    assert HOSTILE in page.text, "it is there, as text"
    assert not [t for t in page.tags if t[0] == "img"]
    assert [t for t in page.tags if t[0] == "script"] == [
        ("script", {"type": "application/json", "id": "values"}),
        ("script", {}),
    ]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    values = json.loads(page.scripts[0])
    assert values["curve-reward"]["series"][0]["name"] == hostile.name
    outcomes = [attrs["data-outcomes"] for _, attrs in page.tags if "data-outcomes" in attrs]
    assert all(isinstance(json.loads(text), dict) for text in outcomes)


def test_the_page_loads_nothing_and_its_links_lead_somewhere(ours: Path, tmp_path: Path) -> None:
    page = page_of([ours], tmp_path / "r.html")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert not attrs.get("src"), tag
        for target in (attrs.get("href", "#main"), attrs.get("action", "#main")):
            assert target == "data:," or target[1:] in ids, (tag, target)
    html = (tmp_path / "r.html").read_text()
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html, "no other script may run"
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", html)
    named = " ".join(attrs.get("aria-labelledby", "") for _, attrs in page.tags).split()
    assert set(named) <= set(ids)


def test_old_evaluations_without_new_blocks_are_shown(ours: Path, tmp_path: Path) -> None:
    for place in ("eval", "eval-base"):
        figures = summary(50.0)
        del figures["calibration"], figures["rates"]["targeted_rate"]
        for setting in figures["settings"].values():
            for block in ("non_answers_by_fifth", "first_answer_by_fifth", "tokens", "entropy"):
                del setting[block]
            del setting["accuracy_by_first_answer"]
        (ours / place / "eval.json").write_text(json.dumps(figures))
    shutil.rmtree(ours / "eval-dev")
    shutil.rmtree(ours.with_name("ours-rlvr"))
    page = page_of([ours], tmp_path / "r.html")
    assert "Figures 1 and 2 need conversations by fifth" in page.text
    assert "AUROC" not in page.text


def test_missing_and_damaged_files_leave_the_rest(ours: Path, tmp_path: Path) -> None:
    for name in ("recipe.yaml", "run.json", "finished"):
        (ours / name).unlink()
    shutil.rmtree(ours / "completions")
    (ours / "eval-base" / "eval.json").write_text('{"settings": {')
    with (ours / "eval" / "conversations.jsonl").open("a") as file:
        file.write('{"half": ')
    with (ours / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "rew')
    made = make_report([ours], tmp_path / "r.html", Options())
    assert set(made.notes) == {
        "eval-base/eval.json is no whole JSON and is left out",
        "eval/conversations.jsonl: left out 1 lines that are not whole",
    }
    html = made.path.read_text()
    assert 'id="training"' in html
    assert 'id="completions"' not in html


def test_metrics_alone_or_a_judgement_alone_make_a_report(ours: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "begun"
    metrics.mkdir()
    shutil.copy(ours / "metrics.jsonl", metrics)
    page = page_of([metrics], tmp_path / "a.html")
    assert "Results" not in page.text
    assert "Entropy over training" in page.text
    judged = tmp_path / "judged"
    judged.mkdir()
    shutil.copytree(ours / "eval-dev", judged / "eval-dev")
    page = page_of([judged], tmp_path / "b.html")
    assert "Averaged performance P" in page.text
    assert "Training" not in page.text
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="found none of them"):
        read_sources([empty])


def test_figures_without_a_value_or_an_interval_are_left_out(ours: Path, tmp_path: Path) -> None:
    """An interval of nothing is NaN, a rate without a reply null."""
    figures = summary(60.0)
    nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    figures["settings"]["sharded"]["P"] |= {"low": float("nan"), "high": float("nan")}
    figures["settings"]["full"]["P"] = nothing
    figures["rates"] = {"clarification_rate": None, "over_asking_rate": nothing}
    figures["calibration"]["auroc"] = nothing
    (ours / "eval" / "eval.json").write_text(json.dumps(figures))
    html = make_report([ours], tmp_path / "r.html", Options(0)).path.read_text()
    assert not re.search(r"\bnan\b|\bNone\b", Page(html).text)
    assert "nan" not in "".join(re.findall(r' d="[^"]*"', html))
    assert "0 of 126 conversations are shown" in html


# ------------------------------------------------------------------------------ command, files


def test_the_command_writes_and_says_what(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(ours), "--conversations", "5"]) == 0
    said = capsys.readouterr().out
    assert "5 of 126 conversations shown" in said
    assert str(ours / "report.html") in said
    assert (ours / "report.html").stat().st_size < 1_000_000
    assert run(["report", str(tmp_path / "none")]) == 2
    assert "expected a run directory, found none" in capsys.readouterr().err


def test_png_files_are_whole(ours: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shutil.rmtree(ours / "eval-dev")
    shutil.rmtree(ours / "eval-base")
    shutil.rmtree(ours.with_name("ours-rlvr"))
    rows = [{"step": step, "entropy": 0.3 - step / 100} for step in range(1, 9)]
    lines(ours / "metrics.jsonl", rows)
    figures = summary(60.0)
    del figures["calibration"], figures["rates"]
    (ours / "eval" / "eval.json").write_text(json.dumps(figures))
    made = make_report([ours], tmp_path / "r.html", Options(png=True))
    names = {file.stem for file in made.pngs}
    paper = {"paper-entropy", "paper-1-first-answer", "paper-1-non-answers", "paper-1-accuracy"}
    assert names == {"curve-entropy", "compare-1-p", "compare-1-u", *paper}
    for file in made.pngs:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert file.stat().st_size > 5_000, file.name


def test_png_without_matplotlib_says_what_to_install(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert run(["report", str(ours), "--png", "-o", str(tmp_path / "r.html")]) == 2
    assert "pip install 'icpo-lite[report]'" in capsys.readouterr().err


def test_completions_of_the_cases_are_as_train_writes_them() -> None:
    assert {"prompt_id", "completion", "reward", "advantage"} <= completions()[0].keys()


def test_a_conversation_in_training_is_shown_turn_by_turn(ours: Path, tmp_path: Path) -> None:
    asked = {"role": "assistant", "content": f"How many has she? {HOSTILE}", "targeted": True}
    asked |= {"response_type": "clarification", "correct": None, "tokens": 5}
    asked |= {"reward": 0.25, "advantage": 0.75, "gold_prob": 0.31}
    solved = {"role": "assistant", "content": "It is 3.", "response_type": "answer_attempt"}
    solved |= {"correct": True, "reward": 1.0, "advantage": -0.5, "gold_prob": 0.62}
    told = {"role": "user", "content": "Ann has 3 eggs.", "told": [1]}
    row = {**completions()[-1], "prompt_id": "c", "turns": [asked, told, solved]}
    with (ours / "completions" / "step-000030.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    page = page_of([ours], tmp_path / "r.html")
    shown = page.text[page.text.index("Completions of the first and last steps") :]
    said = [
        *("about what lacks", "reward 0.25", "advantage 0.75", "P(gold) 0.31"),
        *("How many has she?", "Ann has 3 eggs."),
        *("right", "reward 1.00", "advantage -0.50", "P(gold) 0.62", "It is 3."),
    ]
    places = []
    for words in said:
        places.append(shown.index(words, places[-1] if places else 0))
    assert places == sorted(places)


def test_a_turn_says_what_its_reward_is_made_of_and_a_small_chance_is_not_none(ours: Path) -> None:
    asked = {"role": "assistant", "content": "How many?", "response_type": "clarification"}
    asked |= {"reward": 0.7, "rewards": {"intent": 1.0, "ask_cost": -0.3, "guess": 0.0}}
    asked |= {"advantage": -0.001, "gold_prob": 0.0021}
    row = {**completions()[-1], "prompt_id": "c", "turns": [asked]}
    lines(ours / "completions" / "step-000030.jsonl", [row])
    (step,) = (s for s in training_steps(read_sources([ours]).runs[:1]) if s.number == 30)
    assert step.groups[0].replies[0].turns[0].notes == (
        "reward 0.70 (intent 1.00, ask cost -0.30)",
        "advantage -0.001",
        "P(gold) 0.002",
    )


def test_conversations_of_a_report_are_all_there_and_spread_where_there_is_a_bound(
    ours: Path,
) -> None:
    judgement = read_sources([ours]).judgements[0]
    chosen = select([judgement], None, [])
    assert [entry.place for entry in chosen.entries] == list(range(84))
    assert len({entry.link for entry in chosen.entries}) == 84
    again = select([judgement], 10, [])
    links = {entry.place: entry.link for entry in chosen.entries}
    assert all(links[entry.place] == entry.link for entry in again.entries), "links outlive bounds"
    some = some_of(chosen.entries, 19)
    assert len({(e.setting, e.outcomes["base"]) for e in some}) == 19


def test_pooled_points_are_means_of_stretches() -> None:
    points = [(float(i), float(i % 2)) for i in range(10)]
    assert pool(points, 10) == tuple(points)
    assert pool(points, 5) == tuple((2 * i + 0.5, 0.5) for i in range(5))
    assert pool(points, 4) == ((1.0, 1 / 3), (4.0, 2 / 3), (7.0, 1 / 3), (9.0, 1.0))
    assert pool([]) == ()
