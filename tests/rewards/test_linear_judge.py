"""The learned judge: its asset, what stays with the rules, sums by hand, and its training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from icpo_lite.cli import cli
from icpo_lite.core.errors import DataError, ModelError, UsageError
from icpo_lite.core.types import Intent, Message, Prompt, ResponseType, TaskName
from icpo_lite.data.tiny_world import world_problems
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards import features, judge_agreement, linear_features
from icpo_lite.rewards.from_recipe import bind_judge, make_typer
from icpo_lite.rewards.judge import Judge, Rules
from icpo_lite.rewards.linear_judge import (
    ASSET,
    KINDS,
    LinearModel,
    LinearTyper,
    Vocabulary,
    load,
    save,
    shipped,
)
from icpo_lite.rewards.response_type import explain
from icpo_lite.tools import train_judge
from icpo_lite.tools.judge_turns import plain_turns

ROOT = Path(__file__).parents[2]
DEV = ROOT.parent / "shared" / "data" / "lic_turn_types_dev.jsonl"
INQUIRIES = ROOT.parent / "shared" / "data" / "asking"

#: 40 words and more, so that weights decide.
LONG = (
    "The pump moves 300 litres in the first hour and half as much, 150 litres, in the second. In "
    "the third hour it moves half of that again, which is 75 litres. Adding the three hours up, "
    "the pump has moved 300 + 150 + 75 = 525 litres in all."
)


def prompt(task: TaskName = "math") -> Prompt:
    return Prompt("p", "p", task, Intent.COMPLETE, (Message("user", "?"),), answer="525")


def types(replies: list[str], task: TaskName = "math") -> list[str]:
    items = [(prompt(task), reply, None) for reply in replies]
    return [found.response_type.value for found in LinearTyper().types(items)]


# ------------------------------------------------------------------------------------- the asset


def test_the_asset_is_small_and_its_card_says_what_it_is() -> None:
    assert ASSET.stat().st_size <= 1_500_000
    card = json.loads(ASSET.with_suffix(".json").read_text(encoding="utf-8"))
    assert {"what", "model", "date", "data", "features", "leave_one_model_out"} <= card.keys()
    assert card["data"]["source"]
    assert card["data"]["licence"]
    assert len(card["data"]["source_models"]) >= 8
    best = card["leave_one_model_out"][train_judge.SHIPPED]
    rules = card["leave_one_model_out"]["rules, cues weighed anew"]
    for task in card["tasks"]:
        assert best[task]["macro_f1"] > rules[task]["macro_f1"], "the better one is the default"
        assert best[task]["binary"] >= rules[task]["binary"]


@pytest.mark.parametrize("task", ["math", "actions"])
def test_the_asset_knows_the_facts_that_are_read(task: TaskName) -> None:
    """Features that were renamed, added or lost call for training it again."""
    read = linear_features.facts(LONG, task).keys()
    known = set(shipped().vocabulary.facts)
    rules = {name for name in known if name.startswith("rules: ")}
    assert {name for name in read if not name.startswith("rules: ")} <= known
    assert known - rules <= {*read, *linear_features.facts(LONG, "actions")}


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys, icpo_lite.rewards.linear_judge as j; j.shipped()\n"
        "print([m for m in ('sklearn', 'scipy', 'torch', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_sums_do_not_depend_on_the_order_of_sets() -> None:
    """Sets of strings come in another order in every process."""
    script = (
        "from icpo_lite.rewards.linear_judge import shipped\n"
        f"print(shipped().type_of({LONG!r}, 'math').evidence)\n"
        "places, values = shipped()._encoder.encode({}, {'w the', 'w in', 'w total'}, "
        "__import__('numpy').array([], dtype='uint64'))\nprint(places.tolist(), values.tolist())"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (0, 1)
    }
    assert len(shown) == 1


# ------------------------------------------------------------------------ what stays with the rules


def test_hard_evidence_stays_with_the_rules() -> None:
    """Short replies, questions and bare calls are typed alike by both."""
    replies: list[tuple[str, TaskName]] = [
        ("3 + 4 = 7. The answer is 7.", "math"),
        ("\\boxed{7}", "math"),
        ("How many apples does Ann have?", "math"),
        ("How many does she have? How many does he have?", "math"),
        ("Please tell me the price of one ticket.", "math"),
        ("I cannot answer this.", "math"),
        ("It could be 5 or 7.", "math"),
        ("¿Cuántas manzanas tiene Ana?", "math"),
        ("[get_news(topic='A', quantity=5)]", "actions"),
        ("[check(team='Unknown', player_id=3142)]", "actions"),
        ("Which city do you mean?", "actions"),
        ("None", "actions"),
        ("```python\ndef f(x):\n    return x\n```", "code"),
        ("Should f sort in place?", "code"),
        ("SELECT name FROM t;", "database"),
    ]
    for reply, task in replies:
        found = explain(reply, task=task)
        assert not found.weighed, reply
        assert types([reply], task) == [found.response_type.value]


def test_replies_of_the_built_in_world_are_typed_alike_by_both() -> None:
    replies = []
    for problem in world_problems("test", 60):
        asks = problem.columns["asks"]
        replies += [problem.solution, *asks, " ".join(asks), f"{problem.solution} {asks[0]}"]
    items = [(prompt(), reply, None) for reply in replies]
    by_rules = [found.response_type for found in Rules().types(items)]
    assert [found.response_type for found in LinearTyper().types(items)] == by_rules


@pytest.mark.parametrize("task", ["code", "database"])
def test_a_task_that_it_never_saw_stays_with_the_rules(task: TaskName) -> None:
    assert task not in shipped().weights
    talk = "You could start from the rows that matter and then think about how they hang together. "
    for reply in (talk * 4, f"{talk * 3}Which of the tables holds the names?"):
        assert types([reply], task) == [explain(reply, task=task).response_type.value]


def test_every_type_in_plain_sentences_is_known() -> None:
    """Ordinary sentences of 40 to 100 words, written by hand."""
    replies = {
        LONG: "answer_attempt",
        f"{LONG} Let me know if you would like me to go on with a fourth hour!": "answer_attempt",
        "The cost of growing 50 ears is 50 times 3 dollars, which is 150 dollars. He wants to earn "
        "120 dollars on top of that, so the ears have to bring in 270 dollars altogether. Dividing "
        "270 by 50 gives 5.4. Bennet should sell each ear for $5.40": "answer_attempt",
        "Assuming no other costs, he saves 8 dollars a day after lunch and the bus, since he earns "
        "20, spends 7 on lunch and 5 on the bus. To reach 200 dollars he has to work 200 / 8 = 25 "
        "days, weekends not counted among them. Mark needs 25 days.": "answer_attempt",
        "The train covers the first leg in 3 hours at 80 km/h, so that leg is 240 km. The second "
        "leg takes 2 hours. The speed on the second leg is not in the problem, and the total "
        "distance cannot be found without it. At what speed does the train travel on the second "
        "leg?": "clarification",
        "Unfortunately there is no way to say how many marbles are left in the bag, because the "
        "problem never tells how many there were at the beginning, and nothing in it allows that "
        "number to be worked out from the others. The question cannot be answered as it stands, "
        "so no number is given here.": "refusal",
    }
    assert types(list(replies)) == list(replies.values())


# ----------------------------------------------------------------------------------- sums by hand


def by_hand(*, counted: tuple[str, ...] = ()) -> LinearModel:
    """Two facts: "several ?" speaks for a question, "value" for an answer."""
    weights = np.zeros((3, len(KINDS)), dtype=np.float32)
    weights[0, 0], weights[0, 1] = -3.0, 2.0
    weights[1, 0] = 4.0
    weights[2, 3] = 8.0
    biases = np.array([-1.0, 0.0, 0.0, 0.5, 0.5, 0.0], dtype=np.float32)
    vocabulary = Vocabulary(("several ?", "value"), ("w pump",), ())
    return LinearModel(vocabulary, {"math": weights}, {"math": biases}, counted)


NO_CHARACTERS = np.array([], dtype=np.uint64)


@pytest.mark.parametrize(
    ("facts", "words", "kind", "score"),
    [
        ({}, set(), "discussion", -1.0),  # 0.5 against 0.5: the first of KINDS
        ({"value": 0.5}, set(), "answer_attempt", 1.0),  # -1 + 4 · 0.5
        ({"value": 0.25}, set(), "discussion", 0.0),  # 0 is not above 0
        ({"several ?": 1.0, "value": 0.75}, set(), "clarification", -1.0),  # -1 - 3 + 4 · 0.75
        ({"several ?": 1.0}, {"w pump", "w unknown"}, "discussion", -4.0),  # 2 against 0.5 + 8
    ],
)
def test_weights_are_added_up(
    facts: dict[str, float], words: set[str], kind: str, score: float
) -> None:
    found = by_hand().decide("?", "math", facts, words, NO_CHARACTERS)
    assert found.response_type == kind
    assert found.committed == (kind == "answer_attempt")
    assert found.evidence.endswith(f"(answer score {score:+.1f})")


def test_questions_are_counted_where_labels_do_not_teach_them() -> None:
    reply = "How many apples does Ann have? How many pears does Ben have?"
    several = {"several ?": 1.0}
    learned = by_hand().decide(reply, "math", several, set(), NO_CHARACTERS)
    counted = by_hand(counted=("math",)).decide(reply, "math", several, set(), NO_CHARACTERS)
    assert learned.response_type is ResponseType.CLARIFICATION
    assert counted.response_type is ResponseType.INTERROGATION


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    save(by_hand(counted=("math",)), {"what": "a test"}, tmp_path / "a" / "judge.safetensors")
    read = load(tmp_path / "a" / "judge.safetensors")
    assert read.vocabulary == by_hand().vocabulary
    assert np.array_equal(read.weights["math"], by_hand().weights["math"])
    assert np.array_equal(read.biases["math"], by_hand().biases["math"])
    assert read.counted == {"math"}


def test_what_is_no_judge_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a linear judge at"):
        load(tmp_path / "none.safetensors")
    file = tmp_path / "judge.safetensors"
    save(by_hand(), {"form": 0}, file)
    with pytest.raises(ModelError, match="expected a judge of form 1, found 0"):
        load(file)
    file.write_bytes(b"no archive")
    with pytest.raises(ModelError, match="expected a linear judge at"):
        load(file)


# --------------------------------------------------------------------------------- the features


def test_numbers_and_letters_are_forms() -> None:
    grams = linear_features.word_grams("So the total is 3x + 1,250. Then 7 - y = 2.")
    assert {"w 0", "w x", "h total is", "l - x", "l = 0", "c x ="} <= grams
    assert not any(digit in gram for gram in grams for digit in "123457")


def test_character_grams_are_of_both_ends() -> None:
    grams = linear_features.character_grams("So it is 42.")
    assert grams.tolist() == sorted(set(grams.tolist()))
    shown = {linear_features.shown(gram) for gram in grams.tolist()}
    assert {"so i…", "…so i", "…t is"} <= shown
    assert len(linear_features.character_grams("ab")) == 0


@pytest.mark.parametrize("text", [*"a7 \n?.[{-é数", "```", "x = ", "f(", "a.", "='"])
def test_long_replies_are_read_in_linear_time(text: str) -> None:
    """100 kB of anything: what is ours to read, beside what the rules read."""
    reply = (text * 100_000)[:100_000]
    features.read(reply)
    linear_features._parts.cache_clear()
    start = time.process_time()
    linear_features.word_grams(reply)
    linear_features.character_grams(reply)
    assert time.process_time() - start < 1.5


# ------------------------------------------------------------------------------------ who chooses


def test_recipes_name_it_and_have_it_by_default(tmp_path: Path) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text("model_name_or_path: builtin:tiny\ndataset_name: builtin:world\n")
    assert load_recipe(str(recipe)).judge == "linear"
    assert load_recipe(str(recipe), ["judge=rules"]).judge == "rules"
    assert load_recipe("tiny").judge == "rules"
    assert load_recipe("qwen7b").judge == "linear"
    loaded = load_recipe(str(recipe))
    assert isinstance(bind_judge(loaded, None)._typer, LinearTyper)
    assert isinstance(bind_judge(loaded, None, name="rules")._typer, Rules)
    assert isinstance(bind_judge(None, None)._typer, LinearTyper)


def test_a_judge_without_its_model_is_refused() -> None:
    with pytest.raises(UsageError, match="judge: self asks a model"):
        make_typer("self", None, None)
    with pytest.raises(UsageError, match="judge: endpoint asks a server"):
        make_typer("endpoint", None, None)


def test_threads_may_share_it() -> None:
    assert Judge(typer=LinearTyper()).local
    assert Judge().local


def test_the_judge_grades_what_it_calls_an_answer() -> None:
    verdict = Judge(typer=LinearTyper()).judge(prompt(), LONG)
    assert (verdict.response_type, verdict.correct) == ("answer_attempt", True)


def test_classify_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "turns.jsonl"
    file.write_text(json.dumps({"assistant": LONG, "task": "math"}) + "\n")
    for options in ([], ["--judge", "linear"]):
        result = CliRunner().invoke(cli, ["classify", str(file), *options])
        assert result.exit_code == 0, result.output
        assert "by linear" in result.output


# -------------------------------------------------------------------------------------- training


def test_plain_turns_are_what_their_label_says() -> None:
    turns = list(plain_turns(120))
    assert turns == list(plain_turns(120))
    assert {kind for kind, _ in turns} == set(KINDS)
    for kind, reply in turns:
        assert 35 <= len(reply.split()) <= 130, reply
        assert "{" not in reply
        questions = reply.count("?") - reply.count("Does that make sense?")
        questions -= reply.count("Would you like help with another one?")
        wanted = {"clarification": (1, 1), "interrogation": (2, 3)}.get(kind.value, (0, 0))
        assert wanted[0] <= questions <= wanted[1], reply


def labelled(file: Path, **changed: object) -> Path:
    """Turns in plain style as if three source models had said them."""
    rows = [
        {"assistant": reply, "response_type": kind.value, "task": "math", "task_id": f"t{i % 9}",
         "source_model": "abc"[i // 40], **changed}
        for i, (kind, reply) in enumerate(plain_turns(120, seed=1))
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_training_prints_a_table_and_writes_an_asset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn trains the judge")
    out = tmp_path / "judge.safetensors"
    file = labelled(tmp_path / "turns.jsonl")
    arguments = ["train_judge", "--data", str(file), "--out", str(out), "--licence", "ours"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(train_judge, "PLAIN", 12)
    train_judge.main()
    shown = capsys.readouterr().out
    for name in ("rules, as they are", "n-grams alone", train_judge.SHIPPED, "macro-F1"):
        assert name in shown
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["data"]["licence"] == "ours"
    assert card["data"]["turns"] == {"math": 120}
    model = load(out)
    turns = list(plain_turns(60, seed=2))
    right = sum(model.type_of(reply, "math").response_type is kind for kind, reply in turns)
    assert right >= 54, "turns of the same making are told apart"


def test_training_refuses_turns_without_a_label_or_a_model(tmp_path: Path) -> None:
    columns = judge_agreement.Columns(label="response_type", by="source_model")
    file = labelled(tmp_path / "turns.jsonl", source_model=None)
    file.write_text(file.read_text().replace(', "source_model": null', ""))
    with pytest.raises(DataError, match="expected a label"):
        train_judge.read_examples(file, columns, "task_id")


def test_training_without_scikit_learn_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(UsageError, match="judge-train"):
        train_judge._logistic(np.zeros((2, 1)), np.array([0, 1]))


# ------------------------------------------------------------------------- labelled real turns

needs_dev = pytest.mark.skipif(not DEV.is_file(), reason="labelled turns are not at hand")


@needs_dev
def test_models_that_it_never_saw_are_typed_as_labelled() -> None:
    """Each source model by a judge that was trained on the seven others."""
    pytest.importorskip("sklearn", reason="scikit-learn trains the judge")
    columns = judge_agreement.Columns(label="response_type", by="source_model")
    examples = train_judge.read_examples(DEV, columns, "task_id")
    linear = train_judge.held_out(examples, plain=train_judge.plain_examples(train_judge.PLAIN))
    hard = [f if e.by_rules.weighed else e.by_rules for e, f in zip(examples, linear, strict=True)]
    typed = train_judge.typed_by(examples, hard)
    math = [t for t in typed if t.row.task == "math"]
    actions = [t for t in typed if t.row.task == "actions"]
    assert judge_agreement.binary_agreement(math) >= 0.93  # n-grams alone reach 0.922
    assert judge_agreement.binary_agreement(actions) >= 0.95
    assert judge_agreement.macro_f1(math) >= 0.57
    assert judge_agreement.macro_f1(actions) >= 0.62


@needs_dev
def test_batches_are_typed_fast() -> None:
    """Beside the rules on the same turns, so that a busy machine changes nothing."""
    rows = judge_agreement.read_rows(DEV, judge_agreement.Columns())
    shipped()

    def seconds(typer: Rules | LinearTyper) -> float:
        linear_features._parts.cache_clear()
        for function in (features.read, features.features):
            function.cache_clear()
        return judge_agreement.type_rows(rows, typer)[1]

    assert min(seconds(LinearTyper()) for _ in range(2)) < 6 * max(seconds(Rules()), 0.1)
