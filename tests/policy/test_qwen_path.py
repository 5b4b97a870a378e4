"""The path of qwen7b.yaml without its weights: real layer layout, BPE, ChatML, 4-bit, JSONL."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from icpo_lite.core.console import Display
from icpo_lite.core.files import read_metrics
from icpo_lite.recipe import load_recipe
from icpo_lite.runs import train as run_module
from icpo_lite.tools.pretrain_tiny import CHATML

ROWS = [
    (
        f"{name} buys {n} boxes of pens at $3 each. Every box holds {k} pens. She gives {g} pens "
        f"to a friend. How many pens does {name} have left?",
        f"She buys {n}*{k}=<<{n}*{k}={n * k}>>{n * k} pens.\n"
        f"She keeps {n * k}-{g}=<<{n * k}-{g}={n * k - g}>>{n * k - g} pens.\n#### {n * k - g}",
    )
    for name, n, k, g in (
        ("Ann", 4, 12, 7),
        ("Dora", 5, 10, 6),
        ("Emma", 3, 15, 8),
        ("Kim", 6, 9, 4),
    )
]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A Qwen2 with the layers of Qwen2.5-7B (grouped heads, q/k/v biases, untied head), made small,
    and a byte-level BPE trained here; pad is the end-of-text token, as in Qwen2.5."""
    folder = tmp_path_factory.mktemp("qwen")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([text for row in ROWS for text in row], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 5,  # padded rows, as real checkpoints have them
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def test_qwen7b_recipe_trains_on_a_jsonl_corpus(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = tmp_path / "train.jsonl"
    corpus.write_text(
        "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in ROWS), encoding="utf-8"
    )
    folder = tmp_path / "run"
    recipe = load_recipe(
        "qwen7b",
        [
            *(
                f"model_name_or_path={model_folder}",
                f"dataset_name={corpus}",
                f"output_dir={folder}",
            ),
            *("device=cpu", "max_steps=2", "prompts_per_step=4", "num_generations=4"),
            *("max_completion_length=12", "per_device_train_batch_size=5", "beta=0.02"),
            *("drop_zero_variance=false", "mask_truncated_completions=false"),
            *("evaluation.problems=2", "evaluation.runs=1", f"evaluation.dataset_name={corpus}"),
        ],
    )
    assert recipe.lora_target_modules == "all-linear"
    assert recipe.gradient_checkpointing
    printed = tmp_path / "printed.txt"
    run_module.train(recipe, Display(total=2, live=False, file=printed.open("w")))
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["completions/mean_length"] > 0 for row in rows)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert (folder / "eval" / "eval.json").is_file()
    text = printed.read_text()
    assert "4 complete, 4 underspecified" in text
    assert "trained on" in text

    # A row more is another corpus; resuming on it says so.
    more = corpus.read_text() + json.dumps({"question": ROWS[0][0], "answer": ROWS[0][1]}) + "\n"
    other = tmp_path / "more.jsonl"
    other.write_text(more)
    changed = load_recipe(folder / "recipe.yaml", ["max_steps=3", f"dataset_name={other}"])
    run_module.train(
        changed,
        Display(total=3, live=False, file=printed.open("w")),
        resume_anyway=True,
        extend=True,
    )
    assert "not those that this run began with" in printed.read_text()

    # The same command with more steps resumes, from the augmented corpus in the cache.
    longer = load_recipe(folder / "recipe.yaml", ["max_steps=4", f"dataset_name={other}"])
    run_module.train(longer, Display(total=4, live=False, file=printed.open("w")), extend=True)
    assert "augmented before" in printed.read_text()
    assert [row["step"] for row in read_metrics(folder)] == [1, 2, 3, 4]
