"""Memory arithmetic: against real models' weights, and against numbers worked out by hand."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from icpo_lite.core.errors import ModelError
from icpo_lite.recipe import Recipe
from icpo_lite.tools.memory_model import (
    Job,
    kv_bytes,
    lora_weights,
    nf4_bytes,
    optimizer_bytes,
    plan_memory,
    vllm_rows,
    weight_bytes,
)
from icpo_lite.tools.model_shape import shape_of

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 200,
}
JOB = Job(
    Recipe(
        model_name_or_path="m",
        dataset_name="d",
        prompts_per_step=2,
        num_generations=4,
        max_prompt_length=24,
        max_completion_length=40,
        load_in_4bit=False,
        lora_r=8,
    ),
    micro_batch=2,
)
FAMILIES = ("qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text", "phi3", "phi")
FAMILIES += ("smollm3",)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_the_real_model(family: str, tied: bool) -> None:
    special = {"pad_token_id": 0} if family in ("phi3", "smollm3") else {}
    config = AutoConfig.for_model(family, **SMALL, tie_word_embeddings=tied, **special)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    shape = shape_of(config.to_dict())
    assert sum(shape.parameters().values()) == sum(p.numel() for p in model.parameters())


def test_qwen25_7b_has_its_published_number_of_weights() -> None:
    from icpo_lite.tools.planner import known_config

    shape = shape_of(known_config("Qwen/Qwen2.5-7B-Instruct") or {})
    assert sum(shape.parameters().values()) == 7_615_616_512


#: As their publishers count them, embeddings that are the head as well once.
PUBLISHED = {
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 4_300_079_472,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_of_recipes_have_their_published_number_of_weights(name) -> None:
    from icpo_lite.tools.known_shapes import known_config

    shape = shape_of(known_config(name) or {})
    assert sum(shape.parameters().values()) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B"),
        ("unsloth/Qwen3-4B-unsloth-bnb-4bit", "Qwen/Qwen3-4B"),
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "meta-llama/Llama-3.2-3B-Instruct"),
        ("unsloth/gemma-3-4b-it", "google/gemma-3-4b-it"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_copies_and_siblings_have_the_same_shape(name, same) -> None:
    from icpo_lite.tools.known_shapes import known_config

    assert known_config(name) == known_config(same) is not None
    assert known_config(f"somebody/{name.partition('/')[2]}") is None


def test_the_published_config_of_gemma_3_leaves_out_what_is_usual() -> None:
    """google/gemma-3-4b-it's config.json says no heads, no vocabulary, no pattern of windows."""
    from icpo_lite.tools.known_shapes import known_config

    text = {
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    known = known_config("google/gemma-3-4b-it")
    read = shape_of({**known, "text_config": text})
    assert read == shape_of(known)
    assert read.windows.count(None) == 5
    assert read.name_of(read.linears[0], 7) == "model.language_model.layers.7.self_attn.q_proj"


def test_nf4_takes_4_127_bits_a_weight() -> None:
    """4 bits, 8/64 for a block's scale, 32/(64*256) for the scale of scales."""
    weights = 4096 * 4096
    assert nf4_bytes(weights) * 8 / weights == pytest.approx(4 + 8 / 64 + 32 / 64 / 256, abs=1e-3)


def test_only_the_linear_layers_of_blocks_are_quantised() -> None:
    shape = shape_of({"model_type": "qwen2", **SMALL})
    plain = weight_bytes(shape, JOB)
    packed = weight_bytes(shape, JOB.but(load_in_4bit=True))
    assert {k for k in plain if plain[k] != packed[k]} == {"attention", "mlp"}


def test_lora_and_optimizer_by_hand() -> None:
    """q and v of 64 -> 64 and 64 -> 32 with r 8: (64+64)·8 + (64+32)·8 = 1792 a layer, 4 layers."""
    shape = shape_of({"model_type": "qwen2", **SMALL})
    job = JOB.but(lora_target_modules=("q_proj", "v_proj"))
    assert lora_weights(shape, job) == 4 * 1792
    assert optimizer_bytes(shape, job) == 4 * 1792 * 8
    eight = job.but(optim="adamw_8bit", lora_r=128)
    # Matrices of 128·64 = 8192 take 8 bits, and 32 scales of 4 bytes; 128·32 = 4096 too, and 16.
    a_layer = 3 * (8192 + 32 * 4) + (4096 + 16 * 4)
    assert optimizer_bytes(shape, eight) == 2 * 4 * a_layer


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"lora_target_modules": r".*layers\.[01]\..*\.(q|v)_proj"}, 2 * 1792),
        ({"lora_target_modules": ("layers.3.self_attn.q_proj",)}, 1024),
        # DoRA's lengths: an output each, 64 and 32.
        ({"lora_target_modules": ("q_proj", "v_proj"), "use_dora": True}, 4 * (1792 + 96)),
        ({"lora_target_modules": ("q_proj", "v_proj"), "use_rslora": True}, 4 * 1792),
    ],
)
def test_every_kind_of_lora_by_hand(keys, count) -> None:
    shape = shape_of({"model_type": "qwen2", **SMALL})
    job = JOB.but(**keys)
    assert lora_weights(shape, job) == count
    assert optimizer_bytes(shape, job) == 8 * count


@pytest.mark.parametrize("start", ["pissa", "olora", "loftq"])
def test_what_training_began_from_is_counted(start) -> None:
    shape = shape_of({"model_type": "qwen2", **SMALL})
    plain = plan_memory(shape, JOB.but(load_in_4bit=True))
    begun = plan_memory(shape, JOB.but(load_in_4bit=True, init_lora_weights=start))
    assert begun.stays["LoRA's start"] == begun.stays["LoRA weights"]
    assert begun.tensors > plain.tensors


def test_a_window_bounds_the_kv_cache() -> None:
    """Gemma 2: every other layer sees 16 tokens. 2 · 3 rows · (2·16 + 2·50) · 2 · 256 · 2 bytes."""
    shape = shape_of({"model_type": "gemma2", **SMALL, "sliding_window": 16})
    assert kv_bytes(shape, JOB, 3, 50) == 2 * 3 * (2 * 16 + 2 * 50) * 2 * 256 * 2


def test_a_config_of_qwen_with_an_unused_window_has_none() -> None:
    config = {"model_type": "qwen2", **SMALL, "sliding_window": 16, "use_sliding_window": False}
    assert set(shape_of(config).windows) == {None}


def test_the_peak_is_the_largest_phase_and_not_their_sum() -> None:
    plan = plan_memory(shape_of({"model_type": "qwen2", **SMALL}), JOB)
    stays = sum(plan.stays.values())
    assert plan.tensors == stays + max(phase.bytes for phase in plan.phases)
    assert plan.tensors < stays + sum(phase.bytes for phase in plan.phases)


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job.but(gradient_checkpointing=True),
        lambda job: dataclasses.replace(job, micro_batch=1),
        lambda job: job.but(load_in_4bit=True),
    ],
    ids=["gradient_checkpointing", "micro_batch", "load_in_4bit"],
)
def test_each_knob_takes_less_memory(change: Callable[[Job], Job]) -> None:
    shape = shape_of({"model_type": "qwen2", **SMALL, "hidden_size": 1024, "num_hidden_layers": 8})
    job = JOB.but(max_completion_length=400)
    assert plan_memory(shape, change(job)).peak < plan_memory(shape, job).peak


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "mixtral"}, "found 'mixtral'"),
        ({}, "found 'None'"),
        ({"model_type": "qwen2", **SMALL, "hidden_size": "x"}, "hidden_size"),
        ({"model_type": "llama", **SMALL, "num_hidden_layers": -1}, "num_hidden_layers"),
        ({"model_type": "llama", **SMALL, "vocab_size": True}, "vocab_size"),
    ],
)
def test_odd_configs_are_refused_in_one_line(config: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        shape_of(config)
    assert "\n" not in str(caught.value)


def test_vllm_takes_its_share_of_the_card_and_gives_it_back_asleep() -> None:
    shape = shape_of({"model_type": "qwen2", **SMALL, "hidden_size": 1024, "num_hidden_layers": 8})
    awake = JOB.but(use_vllm=True, vllm_gpu_memory_utilization=0.5, vllm_enable_sleep_mode=False)
    asleep = awake.but(vllm_enable_sleep_mode=True)
    weights = sum(weight_bytes(shape, awake).values())
    reserved = (awake.card_bytes // 2) - weights
    assert plan_memory(shape, awake).stays["vLLM's keys and values"] == reserved
    assert "vLLM's keys and values" not in plan_memory(shape, asleep).stays
    assert plan_memory(shape, asleep).at("sampling") > reserved
    assert plan_memory(shape, awake).at("backward") - plan_memory(shape, asleep).at("backward") == (
        reserved
    )
    assert 8 << 30 < reserved < 12 << 30
    assert vllm_rows(shape, awake) == min(48, reserved // kv_bytes(shape, awake, 1, 63)) == 48
    assert vllm_rows(shape, awake.but(vllm_max_num_seqs=256)) == 48
    assert vllm_rows(shape, awake.but(vllm_max_num_seqs=200)) == 200
    assert vllm_rows(shape, awake.but(vllm_max_num_seqs=3)) == 3


def test_a_conversation_is_a_row_of_all_its_replies() -> None:
    talks = JOB.but(rollout="conversation", max_assistant_turns=3)
    assert (JOB.width, talks.width) == (24 + 40, 24 + 3 * 40)
    long = JOB.but(max_completion_length=120)
    shape = shape_of({"model_type": "qwen2", **SMALL})
    assert plan_memory(shape, talks) == plan_memory(shape, long)
