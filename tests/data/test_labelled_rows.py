"""Sets of complete and insufficient prompts: each publisher's label becomes what it says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icpo_lite.cli.augment import augment as command
from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Intent, Message, Prompt
from icpo_lite.data.from_recipe import training_prompts
from icpo_lite.data.labelled_rows import holds_labels, lost_facts, read_labelled
from icpo_lite.data.prompt_file import read_prompts, write_prompts
from icpo_lite.data.sources import read_problems
from icpo_lite.recipe import load_recipe
from icpo_lite.rewards.icpo import REWARDS
from icpo_lite.rewards.judge import Judge
from icpo_lite.training.reward_check import check_reward

SHARED = Path(__file__).parents[2] / "../shared/data/asking"
COMPLETE, LACKS = Intent.COMPLETE, Intent.UNDERSPECIFIED
PENS = "Ann has 2 pens. She buys 3 pens. How many pens has she?"


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(tmp_path: Path, *rows: Any, **options: Any) -> list[Prompt]:
    path = jsonl(tmp_path / "set.jsonl", *rows)
    assert holds_labels(path, columns=options.get("columns"))
    return read_labelled(path, **options)


def pair(tmp_path: Path, row: Any, **options: Any) -> tuple[Prompt, Prompt]:
    whole, lacking = read(tmp_path, row, **options)
    assert (whole.intent, lacking.intent) == (COMPLETE, LACKS)
    assert whole.problem_id == lacking.problem_id
    assert (whole.certificate.level, lacking.certificate.level) == ("none", "given")
    assert whole.removed == whole.targets == ()
    return whole, lacking


def texts(prompt: Prompt) -> list[str]:
    return [shard.text for shard in prompt.removed]


def test_mip_rows_lack_what_their_twin_states(tmp_path: Path) -> None:
    row = {
        "question": PENS,
        "answer": "2+3=<<2+3=5>>5\n#### 5",
        "insufficient_question": "Ann has 2 pens. How many pens has she?",
    }
    whole, lacking = pair(tmp_path, row)
    assert (whole.text, whole.answer, whole.task) == (PENS, "5", "math")
    assert whole.solution == row["answer"]
    assert lacking.text == row["insufficient_question"]
    assert lacking.solution == ""
    assert texts(lacking) == ["She buys 3 pens."]
    (alone,) = read(tmp_path, {"insufficient_question": "How many pens?", "answer": 37.0})
    assert (alone.intent, alone.answer, alone.removed) == (LACKS, "37", ())


def test_askbench_rows_lack_their_required_points(tmp_path: Path) -> None:
    row = {
        "id": "a1",
        "ori_question": PENS,
        "degraded_question": "Ann has 2 pens. She buys some pens. How many pens has she?",
        "degraded_info": "The number that she buys is gone.",
        "expected_answer": "5",
        "required_points": ["How many pens Ann buys"],
    }
    whole, lacking = pair(tmp_path, row)
    assert (whole.prompt_id, whole.answer) == ("set-a1/complete", "5")
    assert texts(lacking) == row["required_points"]
    assert lacking.targets == ("She buys 3 pens.",)
    assert lacking.columns["degraded_info"] == row["degraded_info"]
    del row["degraded_question"], row["id"]
    (only,) = read(tmp_path, row)
    assert (only.intent, only.text) == (LACKS, PENS)


def test_umwp_rows_are_joined_to_the_whole_problem(tmp_path: Path) -> None:
    shared = {"category": None, "relevant_ids": None, "source": "SVAMP"}
    rows = [
        {"id": 2, "question": PENS, "answer": [5.0], "answerable": True, **shared},
        {
            **shared,
            "id": 9,
            "answer": None,
            "answerable": False,
            "category": 1,
            "relevant_ids": [2],
            "question": "Ann has 2 pens. She buys pens. How many pens has she?",
        },
    ]
    whole, lacking = read(tmp_path, *rows)
    assert (whole.intent, whole.answer, lacking.intent, lacking.answer) == (
        *(COMPLETE, "5"),
        *(LACKS, None),
    )
    assert whole.problem_id == lacking.problem_id == "set-2"
    assert texts(lacking) == ["She buys 3 pens."]
    assert lacking.certificate.out_of_reach == "the data says so: answerable: false"


def test_in3_rows_are_open_tasks_with_missing_details(tmp_path: Path) -> None:
    detail = {
        "description": "Duration of the trip",
        "importance": "3",
        "inquiry": "How long do you plan to stay in Paris?",
        "options": ["3 days", "1 week"],
    }
    rows = [
        {"task": "Plan a trip to Paris.", "vague": True, "missing_details": [detail]},
        {"task": "Name the capital of France.", "vague": False, "missing_details": []},
    ]
    lacking, whole = read(tmp_path, *rows)
    assert [p.task for p in (lacking, whole)] == ["open", "open"]
    assert (lacking.text, texts(lacking)) == ("Plan a trip to Paris.", ["Duration of the trip"])
    assert lacking.targets == ("How long do you plan to stay in Paris?",)
    assert (whole.intent, whole.answer, whole.removed) == (COMPLETE, None, ())
    judge = Judge()
    asked = judge.judge(lacking, "Sure! How many days do you plan to stay in Paris?")
    assert (asked.response_type, asked.targeted) == ("clarification", True)
    other = judge.judge(lacking, "Do you like museums of modern art?")
    assert (other.response_type, other.targeted) == ("clarification", False)
    plan = judge.judge(whole, "The capital of France is Paris, which lies on the Seine.")
    assert (plan.response_type, plan.correct) == ("answer_attempt", None)


def test_clamber_rows_keep_their_context(tmp_path: Path) -> None:
    row = {
        "question": "When did it open?",
        "context": "There are two museums in the town.",
        "clarifying_question": "Which museum do you mean?",
        "require_clarification": 1,
        "category": "MC",
        "subclass": "what",
        "predict_ambiguous": 0,
        "predict_is_ambiguous_response": '{"Output": "False", "Confidence": 4}',
        "predict_clarifying_question": "Clarifying question: Which year?",
    }
    clear = row | {"require_clarification": 0, "clarifying_question": "", "question": "Why?"}
    # The published file holds each row as a JSON text around the JSON of the row.
    lacking, whole = read(tmp_path, *(json.dumps(r) + "\n" for r in (row, clear)))
    assert lacking.text == "There are two museums in the town.\n\nWhen did it open?"
    assert texts(lacking) == ["Which museum do you mean?"]
    assert (whole.intent, whole.text) == (COMPLETE, "There are two museums in the town.\n\nWhy?")
    assert read(tmp_path, row, clear) == [lacking, whole]
    (tmp_path / "list.json").write_text(json.dumps([json.dumps(row), clear]))
    assert [p.text for p in read_labelled(tmp_path / "list.json")] == [lacking.text, whole.text]


def test_mediq_rows_begin_with_the_first_sentence(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "question": "What is the diagnosis?",
        "context": ["A 40-year-old man coughs", "He has a fever.", "His toe is fine."],
        "context_len": 3,
        "options": {"A": "Gout", "B": "Flu"},
        "answer": "Flu",
        "answer_idx": "B",
        "explanation": "",
        "facts": ["1. The man is 40.", "2. The man coughs."],
        "patient": {"age": "40 years", "gender": "male", "specialty_prob": [0.6, 0.4]},
    }
    whole, lacking = pair(tmp_path, row)
    ending = "\n\nWhat is the diagnosis?\n\nA. Gout\nB. Flu"
    assert whole.text == "\n".join(row["context"]) + ending
    assert lacking.text == row["context"][0] + ending
    assert texts(lacking) == row["context"][1:]
    assert (whole.answer, whole.task, lacking.task) == ("Flu", "math", "math")
    assert whole.columns["choices"] == {"A": "Gout", "B": "Flu"}
    judge = Judge()
    for right in ("B", "The answer is (B).", "It is the flu.", "\\boxed{\\text{B. Flu}}"):
        for prompt in (whole, lacking):
            verdict = judge.judge(prompt, right)
            assert (verdict.response_type, verdict.correct) == ("answer_attempt", True), right
    for wrong in ("A", "The answer is gout.", "A or B"):
        assert not judge.judge(whole, wrong).correct
    report = check_reward([whole, lacking], judge, REWARDS["guarded"].bind())
    paid = {r.name: r.complete for r in report.rows}
    assert report.ok, report.problems
    assert (paid["gold"], paid["wrong"], paid["hedged"]) == (1, 0, 0)
    asked = judge.judge(lacking, "Does he have a fever?")
    assert (asked.response_type, asked.targeted) == ("clarification", True)
    # A case of one sentence is known from the beginning.
    short = row | {"id": 8, "context": ["A man coughs."], "context_len": 1}
    prompts = read(tmp_path, row, short)
    assert [p.intent for p in prompts] == [COMPLETE, LACKS, COMPLETE]
    assert prompts[-1].text == "A man coughs." + ending


WEATHER = {"name": "weather", "parameters": {"type": "dict", "properties": {}, "required": []}}
WHEN2CALL = {
    "uuid": "u1",
    "source": "BFCL v2 Live Simple",
    "source_id": "live_simple_1-1-0",
    "question": "I pack my bag. What is the weather?",
    "orig_question": "I pack my bag for 3 days in Rome. What is the weather?",
    "correct_answer": "request_for_info",
    "answers": {
        "direct": "Sunny.",
        "tool_call": '{"name": "weather", "arguments": {"city": "Rome"}}',
        "request_for_info": "Which city?",
        "cannot_answer": "I cannot.",
    },
    "target_tool": None,
    "tools": [json.dumps(WEATHER)],
    "orig_tools": [json.dumps(WEATHER)],
    "held_out_param": "city",
}


def test_when2call_rows_lack_the_argument_that_was_held_out(tmp_path: Path) -> None:
    asked = {"orig_question": WHEN2CALL["question"], "held_out_param": None}
    called = WHEN2CALL | asked | {"uuid": "u2", "correct_answer": "tool_call"}
    direct = WHEN2CALL | asked | {"uuid": "u3", "correct_answer": "direct", "tools": []}
    lacking, whole, told = read(tmp_path, WHEN2CALL, called, direct)
    assert (lacking.intent, whole.intent, told.intent) == (LACKS, COMPLETE, COMPLETE)
    assert {lacking.task, whole.task, told.task} == {"actions"}
    assert lacking.columns["functions"] == [WEATHER]
    assert texts(lacking) == ["city"]
    assert lacking.targets == ("I pack my bag for 3 days in Rome.",)
    assert whole.answer == [{"name": "weather", "arguments": {"city": "Rome"}}]
    assert Judge().judge(whole, '[weather(city="Rome")]').correct
    assert (lacking.answer, told.answer) == (None, None)


def test_rows_that_nobody_could_complete_are_left_out_and_counted(tmp_path: Path) -> None:
    none = WHEN2CALL | {"uuid": "u4", "correct_answer": "cannot_answer", "tools": []}
    bad: Counter[str] = Counter()
    assert len(read(tmp_path, WHEN2CALL, none, bad_rows=bad)) == 1
    assert bad == {"a row that lacks something, or nothing, found 'cannot_answer'": 1}
    recipe = load_recipe("tiny", (f"dataset_name={tmp_path / 'set.jsonl'}",))
    assert "1 rows left out, expected a row that lacks" in training_prompts(recipe)[1]
    calls = {"id": "f_0", "question": [[{"role": "user", "content": "List."}]] * 3}
    jsonl(tmp_path / "f.jsonl", calls | {"missed_function": {"1": ["ls"]}})
    jsonl(tmp_path / "f_answers.jsonl", {"id": "f_0", "ground_truth": [["ls()"], [], ["ls()"]]})
    with pytest.raises(DataError, match="1 × expected a turn that lacks something of the user's"):
        list(read_problems(tmp_path / "f.jsonl"))


def test_in_a_labelled_file_each_row_is_labelled(tmp_path: Path) -> None:
    labelled = {"question": PENS, "answer": "5", "answerable": True}
    for bare in ({"question": PENS, "answer": "5"}, labelled | {"answerable": None}):
        path = jsonl(tmp_path / "set.jsonl", labelled, bare)
        with pytest.raises(DataError, match=r"set\.jsonl:2: expected a label in each row.*none"):
            read_labelled(path)
    twins = {"question": PENS, "answer": "5", "insufficient_question": "How many pens?"}
    alone = twins | {"insufficient_question": None}
    assert [p.intent for p in read(tmp_path, twins, alone)] == [COMPLETE, LACKS, COMPLETE]


def test_a_turn_without_calls_is_where_a_parameter_lacks(tmp_path: Path) -> None:
    said = ["List the files.", "Show the end of the file.", "The last 20 lines, please."]
    questions = [[{"role": "user", "content": text}] for text in said]
    jsonl(tmp_path / "m.jsonl", {"id": "m_0", "question": questions})
    jsonl(
        tmp_path / "m_answers.jsonl",
        {"id": "m_0", "ground_truth": [["ls(a=True)"], [], ["tail(file='a', lines=20)"]]},
    )
    whole, lacking = read_labelled(tmp_path / "m.jsonl")
    before = (Message("user", said[0]), Message("assistant", "[ls(a=True)]"))
    assert lacking.messages == (*before, Message("user", said[1]))
    assert whole.messages == (*before, Message("user", f"{said[1]}\n{said[2]}"))
    assert (lacking.opening, texts(lacking)) == (2, [said[2]])
    assert (whole.answer, lacking.answer) == (None, None)


def test_a_set_of_ones_own_needs_no_publisher(tmp_path: Path) -> None:
    lacking_text = "She buys 3 pens. How many pens has she?"
    row = {
        "complete": PENS,
        "underspecified": lacking_text,
        "answer": 5,
        "missing_points": "How many pens she had",
    }
    whole, lacking = pair(tmp_path, row)
    assert (whole.text, whole.answer, lacking.text) == (PENS, "5", lacking_text)
    assert texts(lacking) == ["How many pens she had"]
    theirs = {"q": PENS, "bad": lacking_text, "gold": "5", "what": ["Her pens before"]}
    columns = {"question": "q", "underspecified": "bad", "answer": "gold", "missing": "what"}
    whole, lacking = pair(tmp_path, theirs, columns=columns)
    assert (whole.text, lacking.text) == (PENS, lacking_text)
    assert texts(lacking) == ["Her pens before"]


@pytest.mark.parametrize(
    ("label", "intent"),
    [
        *(({"answerable": v}, COMPLETE) for v in (True, 1, 1.0, "yes", "True", "answerable")),
        *(({"answerable": v}, LACKS) for v in (False, 0, "no", "false", "unanswerable")),
        *(({"is_ambiguous": v}, LACKS) for v in (True, "1", "yes", "ambiguous")),
        *(({"needs-clarification": v}, COMPLETE) for v in (False, "0", "No")),
        ({"is_impossible": True}, LACKS),
        ({"solvable": "unsolvable"}, LACKS),
        ({"Vague": True, "answerable": False}, LACKS),
    ],
)
def test_labels_are_read_by_what_they_say(
    tmp_path: Path, label: dict[str, Any], intent: Intent
) -> None:
    (prompt,) = read(tmp_path, {"question": PENS, "answer": "5", **label})
    assert prompt.intent is intent


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answerable": True, "vague": True}, "labels that agree"),
        ({"answerable": True, "insufficient_question": 7}, "a question, found the number 7"),
        ({"insufficient_question": {"x": 1}}, 'a question, found {"x": 1}'),
        ({"insufficient_question": "Why?", "required_points": [True]}, "what lacks in required"),
        ({"vague": True, "missing_details": [{"importance": 3}]}, "what lacks in missing_details"),
        ({"insufficient_question": "Why?", "ori_question": "Who?"}, "one complete question"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = jsonl(tmp_path / "set.jsonl", {"question": PENS, "answer": "5", **row})
    with pytest.raises(DataError, match=rf"^set\.jsonl:1: expected {re.escape(message)}"):
        read_labelled(path)


def test_an_empty_list_of_answers_is_none(tmp_path: Path) -> None:
    row = {"question": "When?", "context": "It is old.", "is_impossible": True}
    (prompt,) = read(tmp_path, row | {"answers": {"text": [], "answer_start": []}})
    assert (prompt.intent, prompt.answer) == (LACKS, None)
    assert prompt.text == "It is old.\n\nWhen?"


def test_labelled_rows_are_no_problems(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "set.jsonl", {"question": PENS, "answer": "5", "answerable": False})
    with pytest.raises(DataError, match="a row without labels of what lacks"):
        list(read_problems(path))


def test_lost_facts_are_the_clauses_that_went() -> None:
    assert lost_facts(PENS, "Ann has 2 pens. How many pens has she?") == ("She buys 3 pens.",)
    assert lost_facts(PENS, "Ann has some pens. She buys 3 pens. How many pens has she?") == (
        "Ann has 2 pens.",
    )
    with_question = "If Ann runs 3 miles a day, how far does she run in 5 days?"
    assert lost_facts(with_question, "If Ann runs 3 miles a day, how far does she run?") == (
        "how far does she run in 5 days?",
    )
    assert lost_facts(PENS, "Ann has 2 pens. She buys 3 pens.") == ()
    assert lost_facts(PENS, "The weather in Paris was fine, and nobody counted.") == ()


def test_prompts_with_given_labels_survive_their_file(tmp_path: Path) -> None:
    rows = [
        {"question": "How many?", "answerable": False, "answer": None},
        {"question": PENS, "answerable": True, "answer": 5},
        {"ori_question": PENS, "degraded_question": "Ann has 2 pens.", "required_points": ["a"]},
    ]
    prompts = read(tmp_path, *rows)
    write_prompts(tmp_path / "out.jsonl", prompts)
    assert list(read_prompts(tmp_path / "out.jsonl")) == prompts
    result = CliRunner().invoke(
        command, [str(tmp_path / "set.jsonl"), "-o", str(tmp_path / "cli.jsonl")]
    )
    assert result.exit_code == 0, result.output
    assert list(read_prompts(tmp_path / "cli.jsonl")) == prompts
    assert re.search(r"2\s+certified by given", result.output)


def test_a_reward_is_checked_on_prompts_without_an_answer(tmp_path: Path) -> None:
    rows = [
        {"task": "Plan a trip.", "vague": True, "missing_details": ["where to"]},
        {"task": "Name a colour.", "vague": False, "missing_details": []},
    ]
    report = check_reward(read(tmp_path, *rows), Judge(), REWARDS["guarded"].bind())
    assert report.ok, report.problems
    gold = next(row for row in report.rows if row.name == "gold")
    assert (gold.complete, gold.underspecified) == (None, None)


# ------------------------------------------------------------------- the publishers' own files

#: file → complete and insufficient prompts, complete ones that can be graded.
COUNTS = {
    "mip_gsm8k.json": (264, 264, 264),
    "mip_svamp.json": (0, 162, 0),
    "mip_formula.json": (0, 24, 0),
    "umwp.jsonl": (1257, 1307, 1257),
    "askmind_math500.jsonl": (176, 176, 176),
    "questbench_math.jsonl": (0, 100, 0),
    "in3_train.jsonl": (122, 510, 0),
    "in3_test.jsonl": (9, 42, 0),
    "bfcl_miss_param.jsonl": (106, 106, 0),
    "bfcl_miss_param_answers.jsonl": (106, 106, 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_file_gives_as_many_prompts_as_it_has_labels(name: str) -> None:
    if not (SHARED / name).is_file():
        pytest.skip("the publishers' files are not part of this repository")
    assert holds_labels(SHARED / name)
    prompts = read_labelled(SHARED / name)
    kinds = Counter(p.intent for p in prompts)
    graded = sum(p.intent is COMPLETE and p.answer is not None for p in prompts)
    assert (kinds[COMPLETE], kinds[LACKS], graded) == COUNTS[name]
    assert len({p.prompt_id for p in prompts}) == len(prompts)
    source = (SHARED / name).read_text(encoding="utf-8")
    for prompt in prompts:
        said = [prompt.text, str(prompt.answer), *texts(prompt)]
        for mark in ("{'", "['"):
            # LaTeX writes "70\\text{'s}": what stands in the file stands in the prompt.
            assert mark in source or not any(mark in text for text in said)


@pytest.mark.parametrize(
    ("name", "count", "task"),
    [("mip_math.json", 46, "math"), ("bfcl_simple_python.jsonl", 197, "actions")],
)
def test_a_published_file_without_labels_is_a_corpus(name: str, count: int, task: str) -> None:
    if not (SHARED / name).is_file():
        pytest.skip("the publishers' files are not part of this repository")
    assert not holds_labels(SHARED / name)
    problems = list(read_problems(SHARED / name))
    assert len(problems) == count
    assert {p.task for p in problems} == {task}


@pytest.mark.parametrize("form", ["last turn", "chosen"])
def test_the_right_reply_of_a_chat_with_functions_says_what_lacks(
    tmp_path: Path, form: str
) -> None:
    def row(reply: str) -> dict[str, Any]:
        user = {"role": "user", "content": "What is the weather?"}
        made = {"role": "assistant", "content": reply}
        tools = [json.dumps(WEATHER)]
        if form == "last turn":
            return {"tools": tools, "messages": [user, made]}
        other = {"role": "assistant", "content": "Sunny."}
        rewards = {"chosen_reward": 1.0, "rejected_reward": 0.0}
        both = {"chosen_response": made, "rejected_response": other}
        return {"tools": tools, "messages": [user], **both, **rewards}

    call = {"name": "weather", "arguments": {"city": "Rome"}}
    marked = f"<TOOLCALL>[{json.dumps(json.dumps(call))}]</TOOLCALL>"
    bad: Counter[str] = Counter()
    file = tmp_path / "rows.jsonl"
    replies = (
        "I can look that up. For which city do you want the weather?",
        marked,
        f"<TOOLCALL>[{json.dumps(call)}]</TOOLCALL>",
        "I'm sorry, I cannot tell the weather.",
        "I'm sorry, I can't. Could you name the city?",
    )
    file.write_text("".join(json.dumps(row(reply)) + "\n" for reply in replies))
    lacking, *whole = read_labelled(file, bad_rows=bad)
    assert (lacking.intent, lacking.task, lacking.text) == (
        LACKS,
        "actions",
        "What is the weather?",
    )
    assert texts(lacking) == ["For which city do you want the weather?"]
    assert lacking.certificate.level == "given"
    assert [p.intent for p in whole] == [COMPLETE, COMPLETE]
    assert all(Judge().judge(p, '[weather(city="Rome")]').correct for p in whole)
    assert bad.total() == 2
    assert all(m.role == "user" for p in (lacking, *whole) for m in p.messages)
