"""`eval --endpoint` against a server on this machine that plays the embedded model."""

import json

import pytest
from chat_server import ChatServer
from click.testing import CliRunner

from icpo_lite import cli
from icpo_lite.cli.eval import eval_
from icpo_lite.core import endpoint as client
from icpo_lite.core.endpoint import Endpoint, EndpointOptions
from icpo_lite.core.types import Message
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe.sections import ModelKeys
from icpo_lite.rollout.served_talker import ServedTalker, seed_of
from icpo_lite.tools.report.run_files import read_sources

HOW = ["--temperature", "0", "--problems", "8", "--runs", "2", "--max-new-tokens", "48"]
SERVED = ["--endpoint", "http://h/v1", "--model", "m"]
SETTINGS = "full,concat,sharded,recap,snowball,underspecified"


@pytest.fixture(scope="module")
def policy():
    """As `eval builtin:tiny` loads it."""
    return load_policy(ModelKeys(model_name_or_path="builtin:tiny", device="cpu"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The figures of the same model, loaded here."""
    out = tmp_path_factory.mktemp("own")
    arguments = ["builtin:tiny", *HOW, "--settings", SETTINGS, "--device", "cpu", "-o", str(out)]
    result = CliRunner().invoke(eval_, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads((out / "comparison.json").read_text())["builtin:tiny"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)


def served(server, out, *more, name="org/tiny"):
    arguments = ["--endpoint", server.url, "--model", name, *HOW, "-o", str(out), *more]
    result = CliRunner().invoke(eval_, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads((out / "comparison.json").read_text())


def test_the_figures_are_those_of_the_model_itself(policy, own, tmp_path):
    with ChatServer(policy) as server:
        output, found = served(server, tmp_path / "out", "--settings", SETTINGS)
    assert server.most == 16
    there = found["tiny"]
    for name, setting in own["settings"].items():
        entropies = setting.pop("entropy"), there["settings"][name].pop("entropy")
        assert entropies[1] == pytest.approx(entropies[0], abs=1e-5)
        assert there["settings"][name] == setting, name
    assert there["rates"] == own["rates"]
    assert there["certified"] == own["certified"]
    p_ask, own_p_ask = there["calibration"], own["calibration"]
    assert p_ask["asked"] == own_p_ask["asked"]
    assert p_ask["auroc"]["value"] == pytest.approx(own_p_ask["auroc"]["value"], abs=0.02)
    for kind in ("underspecified", "complete"):
        wanted = own_p_ask["mean_ask_probability"][kind]
        assert p_ask["mean_ask_probability"][kind] == pytest.approx(wanted, abs=0.02)
    assert any(row["text"] == "How" for row in p_ask["openings"])
    for words in ("FULL P", "SHARDED U", "asks on q*", "AUROC", "16 conversations at once"):
        assert words in output
    assert not list((tmp_path / "out").rglob(".replies"))
    assert output.endswith(f"Next: icpo-lite report {tmp_path / 'out'}\n")
    assert cli.run(["report", str(tmp_path / "out")]) == 0
    (judgement,) = read_sources([tmp_path / "out"]).judgements
    assert [model.name for model in judgement.models] == ["tiny"]
    assert "SHARDED" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("logprobs", [5, 0, None])
def test_what_a_server_does_not_tell_is_left_out(logprobs, policy, own, tmp_path):
    """Fewer log-probs than asked for, none, or a refusal; without a count of tokens too."""
    some = ("--settings", "full,underspecified", "--concurrency", "4")
    with ChatServer(policy, logprobs=logprobs, usage=False) as server:
        output, found = served(server, tmp_path / "out", *some)
    assert server.most == 4
    full = found["tiny"]["settings"]["full"]
    assert full["scores"] == own["settings"]["full"]["scores"]
    if logprobs:
        assert "log-probs of 5 tokens" in output
        assert full["entropy"] > 0
        assert found["tiny"]["calibration"]["auroc"]
        return
    assert "no log-probs: no P(ask), AUROC, entropy" in output
    assert full["entropy"] is None
    assert found["tiny"].get("calibration") is None
    assert "entropy" not in output.partition("FULL P")[2]


def said_in(folder):
    """All conversations, without what batches of another size change in the last digits."""
    rows = [json.loads(line) for line in (folder / "tiny" / "conversations.jsonl").open()]
    for row in rows:
        for turn in row["turns"]:
            turn.pop("nll", None)
    return rows


def test_a_server_that_dies_is_gone_on_with(policy, tmp_path, capsys):
    """Nothing that was replied is asked for again, and the end is that of an undisturbed one."""
    some = ["--settings", "full,sharded", "--concurrency", "8"]
    with ChatServer(policy) as server:
        served(server, tmp_path / "whole", *some)
        port, all_requests = server.server_address[1], len(server.requests)
    cut = ["eval", "--endpoint", server.url, "--model", "org/tiny", *HOW, *some]
    cut += ["-o", str(tmp_path / "cut")]
    with ChatServer(policy, port=port, dies_after=30):
        assert cli.run(cut) == 1
    said = capsys.readouterr().err
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    with ChatServer(policy, port=port) as again:
        served(again, tmp_path / "cut", *some)
    assert said_in(tmp_path / "cut") == said_in(tmp_path / "whole")
    assert 0 < len(again.requests) == all_requests - 30


def test_models_of_one_server_stand_in_one_table(policy, tmp_path):
    some = ("--settings", "full", "--compare", "base=org/base:7b")
    with ChatServer(policy) as server:
        output, found = served(server, tmp_path / "out", *some, name="org/lora")
    assert list(found) == ["lora", "base"]
    assert "FULL lora - base" in output
    assert {body["model"] for body in server.requests} == {"org/lora", "org/base:7b"}


def test_a_runs_recipe_says_how_its_served_model_is_judged(policy, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "adapter_config.json").write_text("{}")
    (run / "recipe.yaml").write_text(
        "extends: tiny\nsystem_prompt: Be brief.\nmax_completion_length: 9\n"
    )
    arguments = [str(run), "--settings", "full", "--problems", "1", "--runs", "1"]
    with ChatServer(policy) as server:
        arguments += ["--endpoint", server.url, "--model", "m", "-o", str(tmp_path / "out")]
        result = CliRunner().invoke(eval_, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    asked = server.requests[-1]
    assert asked["max_tokens"] == 9
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_chat_that_is_too_long_is_a_reply_that_says_nothing(policy):
    with ChatServer(policy) as server:
        options = EndpointOptions(base_url=server.url, model="m", cache_dir=None)
        talker = ServedTalker(Endpoint(options), 48, 0.0, logprobs=True)
        long = (Message("user", "How many apples does Ann have ? " * 90),)
        short = (Message("user", "How many apples does Ann have?"),)
        cut, said = talker.reply([long, short], [("k", 0), ("k", 1)])
    assert (cut.content, cut.stop_reason, cut.token_ids) == ("", "length", ())
    assert said.content
    assert len(said.logprobs) == len(said.token_ids) > 0


def test_each_reply_has_a_seed_of_its_own():
    keys = [
        ("sharded", 0, f"p{i}", turn, run) for i in range(9) for turn in (0, 1) for run in (0, 1)
    ]
    seeds = [seed_of(key) for key in keys]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [seed_of(key) for key in keys]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected MODEL, or --endpoint URL and --model NAME"),
        (["--endpoint", "http://h/v1"], "--endpoint needs --model NAME"),
        (["run", "--model", "m"], "belong to --endpoint URL"),
        (["--endpoint", "h:8000", "--model", "m"], "expected a URL such as http://localhost"),
        ([*SERVED, "--ask-threshold", "0.5"], "--ask-threshold: expected a model that is loaded"),
        (
            ["--endpoint", "http://h/v1", "--model", "m", "--judge", "self"],
            "--judge self: expected",
        ),
        (["--endpoint", "http://h/v1", "--model", "m", "--user", "self"], "--user self: expected"),
        ([*SERVED, "--compare", "base"], "NAME=MODEL"),
    ],
)
def test_what_cannot_be_asked_of_a_server_is_said_in_a_line(arguments, words, capsys):
    assert cli.run(["eval", *arguments]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert words in said


def test_a_server_that_is_not_there_is_named(tmp_path, capsys):
    arguments = ["eval", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--problems", "1"]
    arguments += ["-o", str(tmp_path / "out")]
    assert cli.run(arguments) == 1
    (tmp_path / "out" / "m" / ".replies").mkdir(parents=True)
    (tmp_path / "out" / "m" / ".replies" / "one.json").write_text("{}")
    assert cli.run(arguments) == 1, "what it left itself is no stranger's"
    assert "expected a reply of 'm' from http://127.0.0.1:9/v1" in capsys.readouterr().err
