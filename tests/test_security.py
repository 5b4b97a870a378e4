"""Recipes, adapters, corpora and models are data; tokens stay where they are."""

import ast
import base64
import zlib
from pathlib import Path

import pytest
from policies import model_keys

import icpo_lite
from icpo_lite.cli import run
from icpo_lite.core.errors import ModelError, RecipeError
from icpo_lite.core.files import redact
from icpo_lite.policy.load import load_policy
from icpo_lite.recipe import Recipe, load_recipe
from icpo_lite.runs.run_directory import RunDirectory

PACKAGE = Path(icpo_lite.__file__).parent
PLANTED = "s3cret-value-of-no-known-maker"
UNSAFE = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "np.load", "numpy.load"}


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: f.stem)
def test_nothing_is_unpickled(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    picklers = {n.split(".")[0] for n in names} & {"pickle", "cPickle", "dill", "joblib", "shelve"}
    assert not picklers
    assert not calls(tree) & {"pickle.load", "pickle.loads", "pickle.Unpickler"}
    assert not calls(tree) & UNSAFE


@pytest.mark.parametrize("name", [b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\nset\n"])
def test_the_one_pickled_format_holds_plain_values_alone(name: bytes, tmp_path: Path) -> None:
    """LiveCodeBench packs its test cases so; one that holds more than a text is refused."""
    from icpo_lite.data import lost_in_conversation

    touched = tmp_path / "touched"
    code = name + b"(S'touch " + str(touched).encode() + b"'\ntR."
    packed = base64.b64encode(zlib.compress(code)).decode()
    with pytest.raises(lost_in_conversation.LicRowError):
        lost_in_conversation._loaded(packed)
    assert not touched.exists()


def test_an_unsafe_call_would_be_seen() -> None:
    assert calls(ast.parse("import torch\nx = torch.load('f')")) & UNSAFE


def test_a_recipe_with_a_python_tag_runs_nothing(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    file = tmp_path / "r.yaml"
    file.write_text(f'seed: !!python/object/apply:os.mkdir ["{touched}"]\n')
    with pytest.raises(RecipeError):
        load_recipe(file)
    assert not touched.exists()


def test_remote_code_is_off_unless_written_out() -> None:
    assert Recipe.model_fields["trust_remote_code"].default is False
    assert model_keys("x").trust_remote_code is False


def test_a_pickled_adapter_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"adapter_model\.bin, a pickle"):
        load_policy(model_keys("builtin:tiny", device="cpu"), adapter=tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    from icpo_lite.policy.load import model_path

    for file in Path(model_path("builtin:tiny")).iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="safetensors"):
        load_policy(model_keys(str(tmp_path), device="cpu"))


def test_tokens_reach_no_file_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    with RunDirectory(tmp_path / "run") as directory:
        directory.write_recipe({"system_prompt": f"use {PLANTED}", "hub_token": "plain-text"})
        directory.write_run_info(seed=0, command=["icpo-lite", "train", f"x={PLANTED}"])
    written = b"".join(f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file())
    assert PLANTED.encode() not in written
    assert b"plain-text" not in written


def test_a_message_quotes_no_token(monkeypatch, capsys) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", PLANTED)
    assert run(["check", "tiny", f"device={PLANTED}"]) == 2
    assert run(["check", "tiny", "device=hf_abcdefghijklmnop"]) == 2
    shown = capsys.readouterr().err
    assert PLANTED not in shown
    assert "hf_abcdefgh" not in shown
    assert "device" in shown


def test_short_values_are_no_secrets(monkeypatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "on")
    assert redact("one on") == "one on"


@pytest.mark.parametrize("odd", ["../../outside", "a\x00b", "x" * 5000, "/etc/passwd", "~root"])
def test_ids_of_a_corpus_never_become_paths(odd: str, tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "in" / "run") as directory:
        file = directory.write_completions(1, [{"prompt_id": odd, "problem_id": odd}])
    assert file.name == "step-000001.jsonl"
    assert {p.name for p in tmp_path.iterdir()} == {"in"}
