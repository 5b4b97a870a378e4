"""Stands in for unsloth in a subprocess test: says what was imported before it, then loads with
transformers and peft, on a CPU, under the names and parameters that the real one has."""

import json
import os
import sys
from pathlib import Path

with Path(os.environ["FAKE_UNSLOTH_LOG"]).open("a", encoding="utf-8") as log:
    early = [name for name in ("transformers", "peft", "trl") if name in sys.modules]
    quiet = [os.environ.get(n) for n in ("UNSLOTH_DISABLE_STATISTICS", "HF_HUB_DISABLE_TELEMETRY")]
    log.write(json.dumps({"early": early, "quiet": quiet, "pid": os.getpid()}) + "\n")

__version__ = "2026.10.9"


def _say(name, **facts):
    with Path(os.environ["FAKE_UNSLOTH_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"call": name, **facts}) + "\n")


class FastLanguageModel:
    @staticmethod
    def from_pretrained(
        model_name,
        max_seq_length=2048,
        dtype=None,
        load_in_4bit=True,
        device_map="sequential",
        trust_remote_code=False,
        use_gradient_checkpointing="unsloth",
        use_exact_model_name=False,
        fix_tokenizer=True,
        random_state=3407,
        fast_inference=False,
        max_lora_rank=16,
        gpu_memory_utilization=0.5,
        **more,
    ):
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        _say(
            "from_pretrained",
            vllm=fast_inference,
            four=load_in_4bit,
            length=max_seq_length,
            dtype=str(dtype),
            memory=[gpu_memory_utilization, more],
        )
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)
        model = AutoModelForCausalLM.from_pretrained(
            model_name,
            dtype=dtype,
            device_map=device_map,
            quantization_config=config if load_in_4bit else None,
        )
        model.max_seq_length = max_seq_length
        generate = model.generate

        def unsloth_fast_generate(*args, **kwargs):
            return generate(*args, **kwargs)

        model.generate = unsloth_fast_generate
        return model, None

    @staticmethod
    def get_peft_model(
        model,
        r=16,
        target_modules=(),
        lora_alpha=16,
        lora_dropout=0.0,
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=3407,
        use_rslora=False,
        init_lora_weights=True,
        **more,
    ):
        from peft import LoraConfig, get_peft_model

        _say(
            "get_peft_model",
            r=r,
            targets=sorted(target_modules),
            gc=use_gradient_checkpointing,
            kind=[use_rslora, init_lora_weights, more],
        )
        config = LoraConfig(
            r=r,
            lora_alpha=lora_alpha,
            target_modules=list(target_modules),
            use_rslora=use_rslora,
            init_lora_weights=init_lora_weights,
            **more,
        )
        return get_peft_model(model, config)

    @staticmethod
    def for_training(model, use_gradient_checkpointing=None):
        _say("for_training")
        return model.train()

    @staticmethod
    def for_inference(model):
        return model.eval()
