"""Shapes of models that shipped recipes name and of their sisters, so that they are planned without
a network."""

from __future__ import annotations

import re
from typing import Any

#: model → (publisher, model type, hidden, layers, heads, kv heads, intermediate, vocabulary, tied),
#: from the published config.json.
_SHAPES: dict[str, tuple[str, str, int, int, int, int, int, int, bool]] = {
    "Qwen2.5-0.5B": ("Qwen", "qwen2", 896, 24, 14, 2, 4864, 151_936, True),
    "Qwen2.5-1.5B": ("Qwen", "qwen2", 1536, 28, 12, 2, 8960, 151_936, True),
    "Qwen2.5-3B": ("Qwen", "qwen2", 2048, 36, 16, 2, 11_008, 151_936, True),
    "Qwen2.5-7B": ("Qwen", "qwen2", 3584, 28, 28, 4, 18_944, 152_064, False),
    "Qwen2.5-14B": ("Qwen", "qwen2", 5120, 48, 40, 8, 13_824, 152_064, False),
    "Qwen2.5-32B": ("Qwen", "qwen2", 5120, 64, 40, 8, 27_648, 152_064, False),
    "Qwen3-0.6B": ("Qwen", "qwen3", 1024, 28, 16, 8, 3072, 151_936, True),
    "Qwen3-1.7B": ("Qwen", "qwen3", 2048, 28, 16, 8, 6144, 151_936, True),
    "Qwen3-4B": ("Qwen", "qwen3", 2560, 36, 32, 8, 9728, 151_936, True),
    "Qwen3-8B": ("Qwen", "qwen3", 4096, 36, 32, 8, 12_288, 151_936, False),
    "Qwen3-14B": ("Qwen", "qwen3", 5120, 40, 40, 8, 17_408, 151_936, False),
    "Llama-3.2-1B": ("meta-llama", "llama", 2048, 16, 32, 8, 8192, 128_256, True),
    "Llama-3.2-3B": ("meta-llama", "llama", 3072, 28, 24, 8, 8192, 128_256, True),
    "gemma-3-1b": ("google", "gemma3_text", 1152, 26, 4, 1, 6912, 262_144, True),
    "gemma-3-4b": ("google", "gemma3", 2560, 34, 8, 4, 10_240, 262_208, True),
    "Phi-4-mini": ("microsoft", "phi3", 3072, 32, 24, 8, 8192, 200_064, True),
    "SmolLM2-135M": ("HuggingFaceTB", "llama", 576, 30, 9, 3, 1536, 49_152, True),
    "SmolLM3-3B": ("HuggingFaceTB", "smollm3", 2048, 36, 16, 4, 11_008, 128_256, True),
}
#: What a shape has beyond those.
_MORE: dict[str, dict[str, Any]] = {
    "gemma-3-1b": {"head_dim": 256, "sliding_window": 512, "sliding_window_pattern": 6},
    "gemma-3-4b": {"head_dim": 256, "sliding_window": 1024, "sliding_window_pattern": 6},
}
#: The tower that sees, of the models that have one.
_VISION = {
    "gemma-3-4b": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "image_size": 896,
        "patch_size": 14,
    }
}
#: Who publishes the same weights again, open where their makers ask for a licence first.
_COPIES = ("unsloth",)
#: Parts of a name that change no shape: tuned, coding, thinking, by a month, in 4 bits.
_TUNED = re.compile(
    r"(-unsloth)?-bnb-4bit$|-(Instruct|instruct|it|pt|Base|Thinking)(-\d{4})?(?=-|$)|-Coder(?=-)"
)


def known_config(name: str) -> dict[str, Any] | None:
    """The config facts of a model whose shape is in the table, without a network; else None."""
    publisher, _, model = name.partition("/")
    model = _TUNED.sub("", _TUNED.sub("", model))
    shape = _SHAPES.get(model)
    if shape is None or publisher not in (shape[0], *_COPIES):
        return None
    _, kind, hidden, layers, heads, kv_heads, intermediate, vocabulary, tied = shape
    config = {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        **_MORE.get(model, {}),
    }
    if model in _VISION:
        return {"model_type": kind, "text_config": config, "vision_config": _VISION[model]}
    return config
