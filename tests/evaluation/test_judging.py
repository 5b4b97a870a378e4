"""`eval` and `chat` as a user calls them, on the embedded model."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from policies import model_keys

from icpo_lite.cli import run as run_cli
from icpo_lite.cli.chat import chat
from icpo_lite.cli.eval import eval_
from icpo_lite.core.console import Display
from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.types import Message
from icpo_lite.data.tiny_world import world_problems
from icpo_lite.evaluation import compare, judging, kept_evaluation
from icpo_lite.evaluation.ask_threshold import AskingTalker, Prober, question_words
from icpo_lite.evaluation.compare import named_models
from icpo_lite.evaluation.judging import JudgingOptions, judge_policy
from icpo_lite.evaluation.openings import Openings
from icpo_lite.evaluation.request import evaluation_request
from icpo_lite.evaluation.settings import SETTINGS
from icpo_lite.evaluation.table import comparison_rows, fitting
from icpo_lite.policy.from_recipe import load_model
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.opening_logprobs import opening_logprobs
from icpo_lite.recipe import Evaluation, load_recipe, resolved_yaml
from icpo_lite.rewards.from_recipe import bind_judge
from icpo_lite.rollout.groups import PolicyTalker
from icpo_lite.rollout.sampler import SamplingOptions

ARGUMENTS = ["builtin:tiny", "--problems", "3", "--runs", "2", "--device", "cpu"]


def run_eval(tmp_path, *more):
    out = tmp_path / "out"
    result = CliRunner().invoke(eval_, [*ARGUMENTS, "-o", str(out), *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, out


def test_eval_prints_the_table_and_keeps_every_conversation(tmp_path):
    output, out = run_eval(tmp_path)
    for words in (
        *("FULL P", "CONCAT P", "SHARDED P", "SHARDED A90", "SHARDED U", "over-asks on q"),
        *("A90: what the 90th", "U: by how much"),  # said to whoever has not met them
    ):
        assert words in output
    rows = [json.loads(line) for line in (out / "builtin:tiny" / "conversations.jsonl").open()]
    assert len(rows) == 7 * 3 * 2
    usual = {name for name, setting in SETTINGS.items() if not setting.by_name}
    assert {r["setting"] for r in rows} == usual
    figures = json.loads((out / "comparison.json").read_text())
    scores = [r["score"] for r in rows if r["setting"] == "full"]
    mean = 100 * sum(scores) / len(scores)
    assert figures["builtin:tiny"]["settings"]["full"]["P"]["value"] == pytest.approx(mean)


def test_eval_is_deterministic_from_the_seed(tmp_path):
    (one, _), (two, _) = (run_eval(tmp_path / name, "--settings", "sharded") for name in "ab")
    assert one.partition("Figures and")[0] == two.partition("Figures and")[0]


def test_eval_reads_a_file_of_problems(tmp_path):
    data = tmp_path / "problems.jsonl"
    rows = [
        {
            "question": f"Ann has {n} apples. Ben gives her 4. How many does Ann have now?",
            "answer": f"{n}+4=<<{n}+4={n + 4}>>{n + 4}\n#### {n + 4}",
        }
        for n in (2, 3, 5)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output, _ = run_eval(tmp_path, "--data", str(data), "--settings", "full,sharded")
    assert "3 problems" in output


def test_names_of_compared_models():
    assert named_models("runs/a", "base,rlvr=runs/b") == {
        "a": "runs/a",
        "base": "",
        "rlvr": "runs/b",
    }
    with pytest.raises(UsageError, match="base or NAME=RUN"):
        named_models("runs/a", "runs/b")
    with pytest.raises(UsageError, match="two models"):
        named_models("runs/a", "a=runs/b")
    with pytest.raises(UsageError, match="two models"):
        named_models("runs/base", "base")


def test_an_interrupted_eval_says_how_to_go_on(monkeypatch, capsys):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "judge_models", stopped)
    assert run_cli(["eval", "builtin:tiny"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from there\n"


def test_a_run_is_judged_on_what_its_recipe_names_for_it(tmp_path):
    data = tmp_path / "held-out.jsonl"
    row = {"question": "Ann has 3 apples. Ann buys 4 apples. How many apples does Ann have?"}
    data.write_text(json.dumps({**row, "answer": "7"}) + "\n")
    recipe = load_recipe("tiny", [f"evaluation.dataset_name={data}"])
    display = Display(total=0)
    (problem,) = compare._judged_problems(evaluation_request(), recipe, display)
    assert problem.question == row["question"]
    world = evaluation_request(data="builtin:world", problems=2)
    assert len(compare._judged_problems(world, recipe, display)) == 2


def test_options_of_an_evaluation_become_keys_of_a_recipe():
    """What is not given is left to the data or to the first model's recipe; 0 is a value."""
    plain = evaluation_request(data=(), settings=(), problems=None, allow_code_execution=False)
    assert (plain.settings, plain.count("problems"), plain.count("runs")) == ((), None, None)
    assert (plain.data, plain.keys, plain.block) == ((), {}, Evaluation())
    recipe = load_recipe("tiny", seed=5, max_completion_length=40)
    assert plain.key("max_completion_length", recipe) == 40
    assert plain.key("max_completion_length", None, otherwise=48) == 48
    assert plain.said("seed") == 0, "conversations are drawn alike for all models"
    asked = evaluation_request(
        data="a.jsonl", settings="full", runs=3, temperature=0, max_new_tokens=9, system="none"
    )
    assert (asked.data, asked.settings, asked.count("runs")) == (("a.jsonl",), ("full",), 3)
    assert asked.block.temperature == 0
    assert asked.key("max_completion_length", recipe) == 9
    assert asked.key("system_prompt", recipe) == "none"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"setting": ("full",)}, "unknown option setting; did you mean settings"),
        ({"settings": ("ful",)}, "settings: expected some of full, .*, got 'ful'"),
        ({"runs": 0}, "evaluate: runs: expected greater than or equal to 1, found 0"),
        ({"temperature": -1}, "evaluate: temperature: expected greater than or equal to 0"),
    ],
)
def test_wrong_options_of_an_evaluation_are_named(given, words):
    with pytest.raises(UsageError, match=words):
        evaluation_request(**given)


def test_chat_talks_says_that_there_is_no_adapter_and_leaves():
    typed = "How many apples does Ann have after shopping?\n/base\n/new\n/quit\n"
    arguments = ["builtin:tiny", "--device", "cpu", "--max-new-tokens", "24"]
    result = CliRunner().invoke(chat, arguments, input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said = result.stdout.splitlines()  # the bar that shows loading goes to stderr
    assert any("?" in line or "answer is" in line for line in said[2:4])
    assert "no adapter to switch off" in result.output, "nothing is laid upon builtin:tiny"


@pytest.mark.parametrize("option", ["--runs", "--problems", "--max-new-tokens"])
def test_nothing_is_no_number_of_anything(option):
    result = CliRunner().invoke(eval_, ["builtin:tiny", option, "0"])
    assert result.exit_code == 2
    assert "0 is not in the range" in result.output


def test_nothing_is_known_of_a_base_that_no_evaluation_speaks_of(tmp_path, tiny, monkeypatch):
    """Not even where the working directory is a run."""
    (tmp_path / "eval").mkdir()
    block = {"calibration": {"openings": [{"tokens": [5], "asks": 1.0}]}}
    (tmp_path / "eval" / "eval.json").write_text(json.dumps(block))
    monkeypatch.chdir(tmp_path)
    assert judging.openings_for(tiny, "") == (
        question_words(tiny),
        "words with which questions begin",
    )


def test_made_to_ask_where_every_opening_that_asks_is_all_but_impossible(tiny):
    """At a temperature near 0 their probabilities round to 0, and P(ask) comes from others."""
    (how,), (five,) = (tiny.tokenizer(t, add_special_tokens=False)["input_ids"] for t in "?5")
    openings = Openings(((how,), (five,)), (1.0, 0.3), 0.4)
    plain = PolicyTalker(tiny, SamplingOptions(8, 1e-3))
    talker = AskingTalker(plain, Prober(tiny, openings, 1e-3), 0.2)
    (turn,) = talker.reply([WHOLE], [("k", 0)])
    assert turn.content.startswith("?")
    without = AskingTalker(plain, Prober(tiny, Openings(((five,),), (0.3,), 0.4)), 0.2)
    assert not without.asks(np.array(0.9)), "none of its openings asks"


def test_a_broken_adapter_is_refused_in_one_line(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(resolved_yaml(load_recipe("tiny")))
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (run / "adapter_config.json").write_text(json.dumps(config))
    for content, words in ((None, "adapter_model.safetensors, found none"), (b"garbage", "header")):
        if content:
            (run / "adapter_model.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=words) as error:
            load_model(str(run), device="cpu")
        assert "\n" not in str(error.value)


def test_a_run_that_sampled_by_vllm_is_judged_without_it(tmp_path, monkeypatch):
    chosen = load_recipe("tiny", ["use_vllm=true", "backend=unsloth", "load_in_4bit=true"])
    (tmp_path / "recipe.yaml").write_text(resolved_yaml(chosen))
    (tmp_path / "adapter_config.json").write_text("{}")
    asked = []
    monkeypatch.setattr(
        "icpo_lite.policy.load.load_policy", lambda keys, **how: asked.append((keys, how))
    )
    load_model(str(tmp_path))
    # vLLM would take most of the memory; the adapter is the run's own and does not learn.
    (keys, how) = asked[0]
    assert (keys.use_vllm, how) == (False, {"adapter": tmp_path, "trainable": False})


@pytest.fixture(scope="module")
def tiny():
    return load_policy(model_keys("builtin:tiny", device="cpu", load_in_4bit=False))


PROBLEMS = list(world_problems("test", 6, seed=3))
LACKING = [Message("user", "How many apples does Ann have after shopping? Ann has 3 apples.")]
WHOLE = [Message("user", f"{LACKING[0].content} Ann buys 4 apples.")]


def judge_tiny(tiny, place, told=None, runs=2, problems=PROBLEMS, **options):
    settings = options.pop("settings", ("full", "sharded", "recap", "underspecified"))
    block = Evaluation(settings=settings, runs=runs)
    wishes = JudgingOptions(block, SamplingOptions(32), **options)
    tell = (told if told is not None else []).append
    return judge_policy("tiny", tiny, bind_judge(None, tiny), problems, wishes, place, tell)


def files(place):
    return {f.name: f.read_bytes() for f in place.iterdir()}


def test_an_interrupted_evaluation_goes_on_and_ends_the_same(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "CPU_AT_ONCE", 4)  # three portions a setting
    judge_tiny(tiny, tmp_path / "whole")

    class Stopped(BaseException):
        pass

    calls = []
    lines = kept_evaluation.Progress.add

    def stop_after_four(self, portion, found):
        if len(calls) == 4:
            raise Stopped
        calls.append(portion)
        lines(self, portion, found)

    monkeypatch.setattr(kept_evaluation.Progress, "add", stop_after_four)
    with pytest.raises(Stopped):
        judge_tiny(tiny, tmp_path / "cut")
    partial = tmp_path / "cut" / "conversations.partial.jsonl"
    assert not (tmp_path / "cut" / "eval.json").exists()
    with partial.open("ab") as file:
        file.write(b'{"portion": "full/')  # what a kill leaves behind
    monkeypatch.setattr(kept_evaluation.Progress, "add", lines)
    told = []
    judge_tiny(tiny, tmp_path / "cut", told)
    assert any("goes on after 4 portions" in line for line in told)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_progress_of_another_evaluation_is_not_gone_on_with(tiny, tmp_path):
    place = tmp_path / "a"
    place.mkdir()
    (place / "conversations.partial.jsonl").write_text('{"identity": "another"}\n')
    told = []
    judge_tiny(tiny, place, told, settings=("full",))
    assert told == []


def test_threads_do_not_change_the_result(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "CPU_AT_ONCE", 4)
    for name, workers in (("one", 1), ("three", 3)):
        monkeypatch.setattr(judging, "_workers", lambda n=workers: n)
        judge_tiny(tiny, tmp_path / name, settings=("sharded", "full"))
    assert files(tmp_path / "one") == files(tmp_path / "three")


def test_openings_are_scored_as_the_models_own_logits_say(tiny):
    prompts = [tiny.encode_chat(WHOLE), tiny.encode_chat(LACKING)]
    words = [["How"], ["3", "+"], ["3", "-"], ["3", "+", "4"], ["12"]]
    openings = [tuple(tiny.tokenizer.convert_tokens_to_ids(w)) for w in words]
    found = opening_logprobs(tiny, prompts, openings, rows=3)
    for b, prompt in enumerate(prompts):
        for m, opening in enumerate(openings):
            ids = torch.tensor([[*prompt, *opening]])
            with torch.no_grad():
                logp = tiny.causal_lm(input_ids=ids).logits[0].log_softmax(-1)
            steps = [logp[len(prompt) - 1 + i, t] for i, t in enumerate(opening)]
            assert found[b, m] == pytest.approx(float(sum(steps)), abs=1e-3)


def test_probability_of_asking_agrees_with_how_often_it_asks(tiny, tmp_path):
    """P(ask) needs no samples; over many prompts it must match the sampled rate."""
    found = judge_tiny(
        tiny,
        tmp_path,
        runs=8,
        problems=list(world_problems("test", 20, seed=3)),
        settings=("full", "underspecified"),
    )
    block = found["calibration"]
    for kind in ("underspecified", "complete"):
        assert block["mean_ask_probability"][kind] == pytest.approx(block["asked"][kind], abs=0.08)
    assert block["auroc"]["value"] > 0.75
    rows = [json.loads(line) for line in (tmp_path / "conversations.jsonl").open()]
    probabilities = [row["turns"][1]["ask_probability"] for row in rows]
    assert all(0 <= p <= 1 for p in probabilities)
    assert len(set(probabilities)) > 10


def test_question_words_are_those_that_the_model_knows(tiny):
    openings = question_words(tiny)
    assert "How" in [tiny.decode(ids) for ids in openings.tokens]
    assert all(tiny.tokenizer.unk_token_id not in ids for ids in openings.tokens)
    (p,) = Prober(tiny, openings).ask_probability([LACKING])
    assert 0 < p < 1


def test_above_the_threshold_it_asks_and_below_nothing_changes(tiny):
    plain = PolicyTalker(tiny, SamplingOptions(32))
    prober = Prober(tiny, question_words(tiny))
    lacking, whole = prober.ask_probability([LACKING, WHOLE])
    assert lacking > whole
    between = (lacking + whole) / 2
    chats, keys = [LACKING] * 6 + [WHOLE] * 6, [("k", i) for i in range(12)]
    turns = AskingTalker(plain, prober, between).reply(chats, keys)
    assert all(t.content.startswith("How") and "?" in t.content for t in turns[:6])
    # Runs of one prompt share noise by their place, so the free half must be asked for alone.
    assert turns[6:] == plain.reply([WHOLE] * 6, keys[6:])
    assert all(len(t.token_ids) == len(t.logprobs) for t in turns)


def test_eval_with_a_threshold_asks_more(tiny, tmp_path):
    rates = {}
    for name, threshold in (("plain", None), ("asking", 0.08)):
        told = []
        found = judge_tiny(
            tiny,
            tmp_path / name,
            told,
            runs=8,
            settings=("full", "underspecified"),
            ask_threshold=threshold,
        )
        rates[name] = found["rates"]["clarification_rate"]["value"]
    assert rates["asking"] > rates["plain"] + 20
    assert "words with which questions begin" in told[0]


def test_a_threshold_uses_the_openings_of_an_earlier_evaluation(tiny, tmp_path):
    judge_tiny(tiny, tmp_path / "run" / "eval", runs=8, settings=("full", "underspecified"))
    openings, source = judging.openings_for(tiny, str(tmp_path / "run"))
    assert isinstance(openings, Openings)
    assert source.endswith("run/eval/eval.json")
    how = openings.tokens.index(tuple(tiny.tokenizer.convert_tokens_to_ids(["How"])))
    assert openings.share[how] == max(openings.share)


def test_runs_of_one_prompt_share_it_and_differ(tiny):
    keys = [("s", 0, "p", 0, run) for run in range(5)]
    talker = PolicyTalker(tiny, SamplingOptions(24))
    together = talker.reply([WHOLE] * 5, keys)
    assert len({t.content for t in together}) > 1
    two = talker.reply([WHOLE] * 5 + [LACKING] * 5, keys + [("s", 0, "q", 0, r) for r in range(5)])
    assert [t.token_ids for t in two[:5]] == [t.token_ids for t in together]


def test_a_conversation_without_room_ends_in_an_empty_turn(tiny):
    long = [Message("user", "Ann has 3 apples. " * tiny.max_positions)]
    short, cut = PolicyTalker(tiny, SamplingOptions(8)).reply([WHOLE, long], [("a", 0), ("b", 0)])
    assert short.content
    assert (cut.content, cut.stop_reason) == ("", "length")


def test_the_base_plays_the_user(tiny, tmp_path):
    judge_tiny(tiny, tmp_path, settings=("sharded",), user="self")
    rows = [json.loads(line) for line in (tmp_path / "conversations.jsonl").open()]
    said = [t["content"] for row in rows for t in row["turns"] if t["role"] == "user"]
    known = {s.text for p in PROBLEMS for s in p.shards}
    assert set(said) <= known  # the embedded model cannot reword: the shards go verbatim


def test_an_endpoint_user_needs_a_server():
    result = CliRunner().invoke(eval_, ["builtin:tiny", "--user", "endpoint", "--user-model", "m"])
    assert result.exit_code == 2
    assert "--user-base-url" in result.output
    wrong = ["--user", "endpoint", "--user-model", "m", "--user-base-url", "nowhere"]
    result = CliRunner().invoke(eval_, ["builtin:tiny", *wrong])
    assert result.exit_code == 2
    assert "expected a URL such as" in result.output


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_of_four_models_fits(width):
    figure = {"value": 88.8, "low": 80.0, "high": 100.0}
    setting = dict.fromkeys(("P", "A90", "U", "lucky"), figure)
    summary = {
        "settings": {
            name: setting | {"turns": 3.0, "tokens": 41.0, "entropy": 0.2}
            for name in ("full", "concat", "sharded", "recap", "snowball", "clean_history")
        },
        "rates": {"clarification_rate": figure},
        "calibration": {"auroc": {"value": 0.95, "low": 0.93, "high": 0.98}},
    }
    models = dict.fromkeys(("tiny", "base", "rlvr", "another"), summary)
    pieces = list(fitting(*comparison_rows(models), width))
    assert len(pieces) == {60: 2, 80: 2, 200: 1}[width]
    assert [name for header, _ in pieces for name in header[1:]] == list(models)
    for header, rows in pieces:
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        assert sum(widths) + 2 * (len(widths) - 1) <= width
        assert ["AUROC of q* against q", *[".95 [.93, .98]"] * (len(header) - 1)] in rows


def test_lost_in_conversations_own_file_gives_its_table(tmp_path):
    row = {
        "task": "math",
        "shards": [
            {"shard_id": 1, "shard": "How many apples does Ann have after shopping?"},
            {"shard_id": 2, "shard": "Ann has 3 apples."},
            {"shard_id": 3, "shard": "Ann buys 4 apples."},
        ],
        "question": WHOLE[0].content,
        "answer": "#### 7",
    }
    rows = [{**row, "task_id": f"sharded-GSM8K/{i}"} for i in range(3)]
    rows.append({**row, "task_id": "summary/1", "task": "summary"})
    data = tmp_path / "sharded_instructions_600.json"
    data.write_text(json.dumps(rows))
    arguments = ["--data", str(data), "--settings", "full,concat,sharded,recap,snowball"]
    out = tmp_path / "out"
    options = ["--runs", "2", "--device", "cpu", "--system", "none", "-o", str(out)]
    result = CliRunner().invoke(eval_, ["builtin:tiny", *arguments, *options])
    assert result.exit_code == 0, result.output
    assert "left out: 1 rows, expected a task that is graded here, found 'summary'" in result.output
    for words in ("3 problems", "FULL P", "RECAP P", "SNOWBALL P"):
        assert words in result.output


def test_chat_shows_the_probability_of_asking():
    typed = f"{LACKING[0].content}\n/quit\n"
    arguments = ["builtin:tiny", "--device", "cpu", "--ask-threshold", "0.01"]
    result = CliRunner().invoke(chat, arguments, input=typed, catch_exceptions=False)
    assert "made to ask" in result.output
    assert any(line.startswith("How") for line in result.output.splitlines())
