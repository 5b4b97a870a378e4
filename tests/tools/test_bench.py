"""`icpo-lite bench`: what it measures, what it says of peers, the table and the JSON."""

import json

import pytest
import torch
from click.testing import CliRunner

from icpo_lite.cli.bench import bench as command
from icpo_lite.core.errors import UsageError
from icpo_lite.policy.kernels.logprob import token_logprobs
from icpo_lite.tools.bench import logprob_path, rollout_speed
from icpo_lite.tools.bench.logprob_methods import (
    SHAPES,
    Method,
    Shape,
    chosen_peers,
    chosen_shapes,
    ours,
)
from icpo_lite.tools.bench.logprob_path import make_problem, run_bench

TINY = Shape("tiny", 311, 24)
CPU = torch.device("cpu")
OWN = ("logsumexp", "reference", "torch", "triton", "tiled")


def measured(*peers, shape=TINY, own=("logsumexp", "reference", "torch"), **options):
    """own: of ours those that take no interpreter of Triton's, seconds each."""
    methods = (*(method for method in ours() if method.name in own), *peers)
    return run_bench([shape], [40], methods, device=CPU, dtype=torch.float32, repeats=2, **options)


def peer(function, package="torch"):
    return Method("peer", lambda: function, package)


def plain(hidden, weight, targets, shape):
    return (hidden @ weight.t()).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_the_logits_are_as_sharp_as_a_trained_models(softcap):
    shape = Shape("capped", 2000, 64, softcap)
    problem, entropy = make_problem(shape, 64, CPU, torch.float32)
    assert 0.3 < entropy < 1.0
    logp, per_row = token_logprobs(*problem[:3], softcap=softcap)
    assert 0.2 < float(per_row.mean()) < 1.2
    # Targets are sampled from the model: −log p is the entropy on average.
    assert float(-logp.mean()) == pytest.approx(float(per_row.mean()), abs=0.5)


def test_rows_of_ours_and_of_a_right_peer():
    report = measured(peer(plain))
    rows = {row["method"]: row for row in report["rows"]}
    assert [rows[name]["status"] for name in ("reference", "torch", "peer")] == ["ok"] * 3
    for name in ("reference", "torch", "peer"):
        row = rows[name]
        assert len(row["seconds"]) == 2
        assert row["passes"] * row["share_of_matmul_rate"] == pytest.approx(2.0)
        assert row["logp_error"] < 1e-4
        assert row["grad_error"] < 1e-4
    assert rows["torch"]["extra_bytes"] < rows["reference"]["extra_bytes"]
    rate = report["matmul"][0]
    seconds = sum(rate["seconds"]) / 2
    assert rate["tflops"] * 1e12 == pytest.approx(4 * 40 * 24 * 311 / seconds)
    assert json.loads(json.dumps(report)) == report


def test_passes_are_time_over_the_time_of_one_matmul(monkeypatch):
    """A clock by hand: the two matmuls take 4 s, every step 6 s: 6 / (4 / 2) = 3 passes."""
    monkeypatch.setattr(
        logprob_path, "_timed", lambda step, _: 4.0 if step.__name__ == "both" else 6.0
    )
    row = measured()["rows"][0]
    assert row["method"] == "logsumexp"
    assert row["passes"] == pytest.approx(3.0)
    assert row["share_of_matmul_rate"] == pytest.approx(2 / 3)


def test_a_peer_that_is_wrong_fails_or_is_missing_is_said_to_be():
    def half(hidden, weight, targets, shape):
        return 0.5 * plain(hidden, weight, targets, shape)

    def wrong_gradient(hidden, weight, targets, shape):
        right = plain(hidden, weight, targets, shape)
        return right.detach() + 2 * (right - right.detach())

    def fails(hidden, weight, targets, shape):
        raise ValueError("no kernel\nfor this GPU")

    said = {
        "other numbers": [(half, "torch"), (wrong_gradient, "torch")],
        "failed: ValueError: no kernel": [(fails, "torch")],
        "not installed": [(plain, "no-such-package")],
    }
    peers = [peer(*given) for several in said.values() for given in several]
    needs_gpu = Method("peer", lambda: plain, "torch", cuda_only=True)
    rows = measured(*peers, needs_gpu)["rows"][-5:]
    expected = [status for status, several in said.items() for _ in several]
    assert [row["status"] for row in rows] == [*expected, "needs an NVIDIA GPU"]


@pytest.mark.parametrize("name", ["torch-lce", "liger-grpo", "unsloth_zoo", "liger-scaled"])
def test_a_peer_that_is_there_computes_the_same_numbers(name):
    """What is not installed is skipped by name; torch's own is part of torch."""
    (row,) = measured(*chosen_peers(name))["rows"][-1:]
    assert row["method"] == name
    assert row["status"] in ("ok", "not installed"), row["status"]
    assert row["status"] == "ok" or name != "torch-lce"


def test_names_are_checked():
    assert [shape.name for shape in chosen_shapes("gemma-2-2b, cpu")] == ["gemma-2-2b", "cpu"]
    assert chosen_peers("none") == ()
    assert len(chosen_peers("all")) == 8
    with pytest.raises(UsageError, match=r"expected a shape out of .*, found 'qwen'"):
        chosen_shapes("qwen")
    with pytest.raises(UsageError, match="expected a peer"):
        chosen_peers("trl,apex")


def test_the_command_prints_a_table_and_writes_json(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "small", TINY)
    out = tmp_path / "bench.json"
    done = CliRunner().invoke(
        command,
        [
            "--part",
            "logprob",
            "--cpu",
            "--tokens",
            "16,24",
            "--repeats",
            "1",
            "--peers",
            "trl",
            "-o",
            str(out),
        ],
    )
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["command"] == (
        "icpo-lite bench --part logprob --shapes small --tokens 16,24 --peers trl --dtype float32 "
        "--repeats 1 --cpu"
    )
    assert {(row["tokens"], row["method"]) for row in report["rows"]} == {
        (count, method) for count in (16, 24) for method in (*OWN, "trl")
    }
    assert str(tmp_path) not in out.read_text()
    table = [line for line in done.output.splitlines() if line.startswith("| tiny")]
    assert len(table) == 12
    said = {line.split(" | ")[2]: line.split(" | ")[3] for line in table}
    assert said == dict.fromkeys(("reference", "torch", "triton", "tiled", "trl"), "yes") | {
        "logsumexp": "no"
    }
    assert done.output.count("the two matmuls alone run at") == 2


def test_the_command_refuses_counts_that_are_none():
    done = CliRunner().invoke(command, ["--cpu", "--tokens", "4k"])
    assert done.exit_code == 2
    assert "whole numbers above 0" in done.output


def test_rollout_measures_every_engine_beside_plain_generate(tmp_path):
    out = tmp_path / "bench.json"
    sizes = ["--prompts", "2", "--generations", "3", "--prompt-tokens", "12", "--reply-tokens", "5"]
    done = CliRunner().invoke(
        command, ["--part", "rollout", "--cpu", "--repeats", "2", *sizes, "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    rows = {row["engine"]: row for row in report["sampling"]}
    assert set(rows) == {rollout_speed.PLAIN, "native", "generate", "continuous", "unsloth", "vllm"}
    for name in (rollout_speed.PLAIN, "native", "generate", "continuous"):
        median = sum(rows[name]["seconds"]) / 2
        assert rows[name]["tokens_per_second"] == pytest.approx(2 * 3 * 5 / median)
    assert rows[rollout_speed.PLAIN]["times_plain"] == 1.0
    assert rows["unsloth"]["status"] == "the model was not loaded by unsloth"
    training = report["training"]
    assert training["tokens"] == {"plain": 6 * 17, "shared": 2 * 12 + 6 * 4}
    assert training["logp_difference"] < 1e-4
    assert training["grad_difference"] < 1e-4
    assert f"| native | {rows['native']['tokens_per_second']:,.0f} |" in done.output
    assert str(tmp_path) not in out.read_text()
