"""The verdict: what it claims of figures, and what it leaves unclaimed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from report_cases import figure, summary, write_run

from icpo_lite.evaluation.table import judged_problems
from icpo_lite.tools.report.charts import ticks
from icpo_lite.tools.report.page import Options, make_report
from icpo_lite.tools.report.run_files import Judged, Judgement, read_sources
from icpo_lite.tools.report.tables import differences_in_words, paired_differences
from icpo_lite.tools.report.verdict import Verdict, amount, difference, verdicts


def rates(asks: Any, needless: Any, targeted: Any = None) -> dict[str, Any]:
    """An eval.json of rates alone."""
    named = {"clarification_rate": asks, "over_asking_rate": needless, "targeted_rate": targeted}
    return {"settings": {}, "rates": {k: v for k, v in named.items() if v is not None}}


def of(own: dict[str, Any], *others: dict[str, Any]) -> Verdict:
    names = ("base", "rlvr")
    models = [Judged(n, s, Path("none")) for n, s in zip(names, others, strict=False)]
    judgement = Judgement("At the end", "icpo", (*models, Judged("icpo", own, Path("none"))))
    (found,) = verdicts([judgement], [paired_differences(judgement)[0]], [])
    return found


def said(verdict: Verdict) -> list[tuple[str, str]]:
    return [(claim.kind, claim.text) for claim in verdict.claims]


def test_an_interval_of_a_difference_comes_from_both() -> None:
    """82 [75, 88] minus 13 [9, 18]: down by the root of 7² + 5², up by that of 6² + 4²."""
    a, b = {"value": 82, "low": 75, "high": 88}, {"value": 13, "low": 9, "high": 18}
    found = difference(a, b)
    assert found == {
        "value": 69,
        "low": pytest.approx(69 - 74**0.5),
        "high": pytest.approx(69 + 52**0.5),
    }
    assert difference(a, {"value": 13}) is None
    assert difference(a, {"value": 13, "low": None, "high": 18}) is None
    assert difference(a, {"value": 13, "low": float("nan"), "high": 18}) is None


def test_better_and_worse_are_said_of_each_figure() -> None:
    verdict = of(rates(figure(82), figure(9, 1)), rates(figure(13), figure(3, 1)))
    assert said(verdict) == [
        ("better", "asks 82 % where something is missing, was 13 %: better, +69.0 points "
         "[+61.9, +76.1]"),
        ("worse", "asks 9.0 % where nothing is missing, was 3.0 %: worse, +6.0 points "
         "[+4.6, +7.4]"),
    ]  # fmt: skip
    (headline,) = verdict.headlines
    assert headline.text == "icpo against base: better in asking; worse in needless asking."
    assert headline.kind == "unclear", "neither good nor bad as a whole"


def test_what_includes_0_is_not_claimed() -> None:
    verdict = of(rates(figure(20), figure(1, 1)), rates(figure(17), figure(3, 1)))
    assert said(verdict) == [
        ("unclear", "asks 20 % where something is missing, was 17 %: +3.0 points [−4.1, +10.1] "
         "includes 0, so no difference is shown"),
        ("better", "asks 1.0 % where nothing is missing, was 3.0 %: better, −2.0 points "
         "[−3.4, −0.6]"),
    ]  # fmt: skip
    assert "no difference shown in asking" in verdict.headlines[0].text


def test_without_an_interval_chance_is_named() -> None:
    verdict = of(rates({"value": 82.0}, None), rates({"value": 13.0}, None))
    assert said(verdict) == [
        (
            "unknown",
            "asks 82 % where something is missing, was 13 %; without intervals this may be chance",
        )
    ]
    assert verdict.headlines[0].kind == "unknown"


def test_what_the_other_was_not_judged_on_is_said() -> None:
    verdict = of(rates(figure(82), figure(2)), rates(None, figure(2)))
    assert said(verdict)[0] == (
        "plain",
        "asks 82 % where something is missing; base was not judged on that",
    )
    nothing = of(rates(figure(82), None), rates(None, figure(2)))
    assert nothing.headlines[0].text == "icpo and base were judged on nothing in common."


def test_alone_it_is_compared_with_nothing() -> None:
    verdict = of(rates(figure(82), None))
    assert said(verdict) == [("plain", "asks 82 % where something is missing [77, 87]")]
    assert "whether training changed it is not known" in verdict.headlines[0].text
    assert "--compare base" in verdict.headlines[0].text


def test_every_rival_has_a_headline_and_the_base_the_claims() -> None:
    verdict = of(rates(figure(82), None), rates(figure(13), None), rates(figure(86), None))
    assert [claim.text for claim in verdict.headlines] == [
        "icpo against base: better in asking.",
        "icpo against rlvr: no difference shown in asking.",
    ]
    assert "was 13 %" in verdict.claims[0].text


def test_scores_over_the_same_problems_are_paired() -> None:
    """Each problem 35 points better: the paired interval has no width, the unpaired one ±7."""
    verdict = of(summary(60.0), summary(25.0))
    sharded = next(c for c in verdict.claims if "SHARDED" in c.text)
    assert sharded.text.endswith("was 25 %: better, +35.0 points [+35.0, +35.0]")
    assert any("Only 6 problems" in line for line in verdict.caveats)


def test_of_one_problem_nothing_is_claimed() -> None:
    """Its interval has no width, so that any difference would lie outside of 0."""
    own, other = (few(summary(value)) for value in (60.0, 25.0))
    verdict = of(own, other)
    assert {claim.kind for claim in verdict.claims} == {"unknown"}
    assert verdict.headlines[0].text.startswith("icpo against base: not to be told without more")
    sharded = next(c for c in verdict.claims if "SHARDED" in c.text)
    assert sharded.text.endswith("was 25 %; without more problems this may be chance")
    assert "Only 1 problem was judged; figures of so few jump about." in verdict.caveats
    assert judged_problems(own) == "1 problem"
    assert judged_problems({"judged_with": {"problems": 70}}) == "70 problems"


def few(judged: dict[str, Any]) -> dict[str, Any]:
    """The same with the scores of its first problem alone."""
    for setting in judged["settings"].values():
        setting["scores"] = dict(list(setting["scores"].items())[:1])
    return judged


def test_figures_that_are_no_numbers_are_left_out() -> None:
    nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    assert of(rates(nothing, None), rates(figure(1), None)).claims == ()
    assert of(rates({"value": None}, None), rates(figure(1), None)).claims == ()


def test_amounts_are_whole_from_ten_on() -> None:
    assert [amount(v) for v in (0, 0.04, 0.6, 9.94, 9.96, 82.4)] == [
        *("0", "0.0", "0.6", "9.9", "10", "82")
    ]


def test_without_an_evaluation_the_curves_speak_of_themselves_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ours", compare={}, max_steps=80)
    shutil.rmtree(folder / "eval")
    shutil.rmtree(folder / "eval-base")
    (folder / "finished").unlink()
    (verdict,) = verdicts([], [], read_sources([folder]).runs)
    assert verdict.headlines[0].text.startswith("No evaluation yet: what it does with problems")
    assert f"icpo-lite eval {folder} --compare base" in verdict.headlines[0].text
    assert "judges it" in verdict.headlines[0].text
    assert said(verdict)[0] == ("plain", "asks 64 % where something is missing, was 14 %")
    assert verdict.caveats[0] == "Training is not finished: step 30 of 80."
    assert "prompts of training" in verdict.caveats[1]


def test_the_page_begins_with_it_and_folds_the_tables(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ours", compare={})
    figures = summary(20.0)
    (folder / "eval" / "eval.json").write_text(json.dumps(figures))
    html = make_report([folder], tmp_path / "r.html", Options()).path.read_text()
    places = [html.index(f'<section id="{name}"') for name in ("verdict", "training", "results")]
    assert places == sorted(places)
    assert 'class="worse">asks 20 % where something is missing, was 25 %: ' not in html
    assert "asks 20 % where something is missing, was 25 %: −5.0 points" in html
    assert "icpo against base: worse in SHARDED and FULL" in html
    results = html[places[2] :]
    assert results.index("<details") < results.index("<table") < results.index("</details")


def test_a_legend_says_how_each_recipe_differs_from_the_first(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", compare={})
    other = write_run(tmp_path / "b", compare={}, loss_type="dr_grpo", seed=3, beta=0.1, top_p=0.9)
    runs = read_sources([first, other]).runs
    assert differences_in_words(runs) == {
        "a": "",
        "b": "loss_type: dr_grpo, seed: 3, beta: 0.1, 1 more",
    }


def test_what_stands_out_is_told_in_its_own_words(tmp_path: Path) -> None:
    """As a sentence, not as the record that holds it."""
    folder = write_run(tmp_path / "ours", compare={})
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    flat = [row | {"frac_reward_zero_std": 0.97, "over_asking_rate": 0.4} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in flat))
    html = make_report([folder], tmp_path / "r.html", Options()).path.read_text()
    told = html.partition("last ten steps:</strong>")[2].partition("</p>")[0]
    assert "it asks on 40% of the complete prompts" in told
    assert "Finding(" not in html


@pytest.mark.parametrize("last", [3, 12, 20, 80, 5000])
def test_steps_are_counted_in_whole_numbers(last: int) -> None:
    found = ticks(1, last, whole=True)
    assert 2 <= len(found) <= 8
    assert all(value == int(value) for value in found)
