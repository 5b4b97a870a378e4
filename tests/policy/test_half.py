"""float16 with the outliers of trained weights: found, computed safely, no NaN in the adapter."""

import gc
import weakref

import pytest
import torch
from model_families import save_family, save_planted
from policies import model_keys
from safetensors.torch import load_file
from transformers import DynamicCache

from icpo_lite.core.console import Display
from icpo_lite.core.errors import NumericsError
from icpo_lite.core.files import read_metrics
from icpo_lite.core.oom import empty_cache
from icpo_lite.core.types import Message
from icpo_lite.policy import fp16
from icpo_lite.policy.load import load_policy
from icpo_lite.policy.logprobs import hidden_states
from icpo_lite.recipe import load_recipe
from icpo_lite.runs import train as run_module

CHAT = [Message("user", "Ann has 3 apples and Ben has 4. How many?")]
#: The share of a product of 2·10⁵ that is written back: 10⁴, or more than the residual holds.
MODEST, TOO_MUCH = 0.05, 0.6


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return {
        w: save_planted(tmp_path_factory.mktemp("planted"), written=w) for w in (MODEST, TOO_MUCH)
    }


def load(folder, dtype="float16", **changes):
    options = {"load_in_4bit": False, "device": "cpu", "lora_r": 4} | changes
    return load_policy(model_keys(str(folder), dtype=dtype, **options))


def hidden(policy):
    ids = torch.tensor([policy.encode_chat(CHAT)])
    with torch.no_grad():
        return hidden_states(policy, ids, torch.ones_like(ids)).float()


def test_the_planted_model_overflows_without_protection(planted, monkeypatch):
    monkeypatch.setattr("icpo_lite.policy.load.keep_finite", lambda *_: [])
    assert not torch.isfinite(hidden(load(planted[MODEST]))).all()


@pytest.mark.parametrize("written", [MODEST, TOO_MUCH])
def test_protected_it_computes_what_float32_does(written, planted):
    policy, truth = load(planted[written]), hidden(load(planted[written], "float32"))
    assert any("MLP products reach" in n and "1 of 2 layers" in n for n in policy.notes)
    widened = any("residual stream overflows" in n for n in policy.notes)
    assert widened == (written == TOO_MUCH)
    # float16 keeps eleven bits; sums over 48 channels and two layers lose a few of them.
    assert (hidden(policy) - truth).abs().max() < 0.02 * truth.abs().max()


def test_a_model_without_outliers_is_left_as_it_is(tmp_path):
    policy = load(save_family(tmp_path, "qwen2", scale=1.0))
    assert not [note for note in policy.notes if "float16" in note]
    assert not [m for m in policy.causal_lm.modules() if "forward" in vars(m) and fp16._is_gated(m)]


def load_unprobed(folder, monkeypatch):
    """Watched, but nothing protected yet: as when the probe's text stays below the limit."""
    with monkeypatch.context() as patch:
        patch.setattr(fp16._Guard, "protect_what_overflows", lambda self, ids: None)
        patch.setattr(fp16._Guard, "run", lambda self, ids: None)
        return load(folder)


def test_what_the_probe_did_not_meet_is_caught_as_it_happens(planted, monkeypatch):
    policy = load_unprobed(planted[MODEST], monkeypatch)
    truth = hidden(load(planted[MODEST], "float32"))
    with pytest.warns(UserWarning, match="overflow was met"):
        assert (hidden(policy) - truth).abs().max() < 0.02 * truth.abs().max()


def test_a_model_that_is_let_go_frees_its_memory(planted):
    """Its wrapped forward refers to itself, so counting references alone would keep it."""
    policy = load(planted[MODEST])
    gone = weakref.ref(policy.causal_lm)
    gc.collect()
    gc.disable()
    try:
        del policy
        empty_cache()
        assert gone() is None
    finally:
        gc.enable()


def test_a_cache_holds_nothing_of_the_failed_attempt(planted, monkeypatch):
    policy = load_unprobed(planted[MODEST], monkeypatch)
    ids = torch.tensor([policy.encode_chat(CHAT)])
    cache = DynamicCache(config=policy.causal_lm.config)
    with torch.no_grad(), pytest.warns(UserWarning, match="overflow"):
        policy.causal_lm.eval()(input_ids=ids, past_key_values=cache, use_cache=True)
    assert cache.get_seq_length() == ids.shape[1]
    assert all(torch.isfinite(layer.keys).all() for layer in cache.layers)


def test_what_cannot_be_helped_ends_in_one_line(planted, monkeypatch):
    policy = load(planted[MODEST])
    with torch.no_grad():
        policy.causal_lm.model.norm.weight.fill_(float("inf"))
    with (
        pytest.warns(UserWarning, match="float16"),
        pytest.raises(NumericsError, match="use dtype: float32"),
    ):
        hidden(policy)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "phi3", "qwen3"])
def test_products_and_residuals_in_float32_fit_every_family(family, tmp_path):
    """The strongest protection changes nothing but rounding."""
    save_family(tmp_path, family, scale=1.0)
    policy, truth = load(tmp_path), hidden(load(tmp_path, "float32"))
    guard = fp16._Guard(policy.causal_lm)
    assert len(guard.mlps) == 2
    guard._protect(guard.mlps)
    fp16.widen_residual(guard.decoder)
    assert policy.causal_lm(torch.tensor([policy.encode_chat(CHAT)])).logits.dtype is torch.float16
    assert (hidden(policy) - truth).abs().max() < 0.02 * truth.abs().max()


REWARD = """
def spread(prompts, completions, **rest):
    return [sum(map(ord, str(text))) % 7 / 7 for text in completions]
"""


def test_fifty_steps_leave_no_nan_in_the_adapter(planted, tmp_path):
    (tmp_path / "mine.py").write_text(REWARD)
    (tmp_path / "r.yaml").write_text("extends: tiny\nreward_funcs: [mine.py:spread]\n")
    folder = tmp_path / "run"
    recipe = load_recipe(
        str(tmp_path / "r.yaml"),
        [
            *(f"model_name_or_path={planted[TOO_MUCH]}", f"output_dir={folder}", "compare={}"),
            *("dtype=float16", "load_in_4bit=false", "device=cpu", "max_steps=50"),
            *("prompts_per_step=2", "num_generations=2", "max_completion_length=4"),
            "max_prompt_length=400",
            *(
                "evaluation.enabled=false",
                "save_steps=50",
                "drop_zero_variance=false",
                "count_zero_variance=true",
            ),
        ],
    )
    printed = tmp_path / "printed.txt"
    run_module.train(recipe, Display(total=50, live=False, file=printed.open("w")))
    rows = read_metrics(folder)
    assert len(rows) == 50
    # The loss scale finds its height by overflows, which skip a step and read as a norm of 0.
    taken = [row["grad_norm"] for row in rows if row["grad_norm"] > 0]
    assert len(taken) >= 30
    adapter = load_file(folder / "adapter_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in adapter.values())
    assert any(tensor.abs().max() > 0 for name, tensor in adapter.items() if "lora_B" in name)
    assert "MLP products reach" in printed.read_text()
