"""Tiny random models of the families that people train, each with a tokenizer, as folders.

Shared by the tests of the policy room; nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GptOssConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
    SmolLM3Config,
)

#: A byte-level vocabulary has 256 tokens; these follow, and rows that no token has, as in Qwen's.
SPECIAL = ("<pad>", "<bos>", "<eos>", "<end>", "<|user|>", "<|assistant|>", "<|system|>")
VOCABULARY = 256 + len(SPECIAL) + 5
PAD, BOS, EOS, END = range(256, 260)

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
#: Gemma 2's: no system turn.
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
)
#: One that forgets the system turn in silence.
DROPS_SYSTEM = CHATML.replace(
    "{{ '<|' + m", "{% if m['role'] != 'system' %}{{ '<|' + m", 1
).replace("'<end>\n' }}", "'<end>\n' }}{% endif %}", 1)

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
_TIED = {**_SIZES, "tie_word_embeddings": True}
_HEADS = {"head_dim": 16}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
#: Windows shorter than the tests' sequences, so that they matter.
_GEMMA = {"sliding_window": 8, "query_pre_attn_scalar": 16, **_HEADS}
_LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
CONFIGS = {
    "qwen2": lambda: Qwen2Config(**_SIZES, tie_word_embeddings=False),
    "qwen2-tied": lambda: Qwen2Config(**_SIZES, tie_word_embeddings=True),
    # From here on in the ratios of the models that recipes name: Qwen3-4B, Llama-3.2-3B, Gemma 3's
    # 1B, Phi-4-mini, SmolLM3-3B.
    "qwen3": lambda: Qwen3Config(**{**_TIED, **_HEADS, "num_key_value_heads": 1}),
    "llama": lambda: LlamaConfig(
        **{**_TIED, "num_attention_heads": 3, "num_key_value_heads": 1},
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 256,
        },
    ),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=8),
    "gemma2": lambda: Gemma2Config(
        **_SIZES, **_GEMMA, final_logit_softcapping=0.5, attn_logit_softcapping=0.5
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **{**_SIZES, **_GEMMA, "num_key_value_heads": 1},
        layer_types=["sliding_attention", "full_attention"],
    ),
    "gemma3-vision": lambda: Gemma3Config(
        text_config={**_SIZES, **_GEMMA}, vision_config=_VISION, mm_tokens_per_image=4
    ),
    "phi": lambda: PhiConfig(**_SIZES),
    "phi3": lambda: Phi3Config(
        **{**_TIED, "num_attention_heads": 3, "num_key_value_heads": 1},
        original_max_position_embeddings=512,
        sliding_window=2048,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0],
        },
    ),
    # Every other layer knows no places; four queries to a key, as in the real one.
    "smollm3": lambda: SmolLM3Config(
        **{**_TIED, "num_key_value_heads": 1}, no_rope_layers=[1, 0], no_rope_layer_interval=2
    ),
}
#: Mixtures of experts, and layers that carry a state: linear attention, convolutions, state spaces.
OTHER_CONFIGS = {
    "qwen3-moe": lambda: Qwen3MoeConfig(**_SIZES, **_HEADS, **_EXPERTS),
    "mixtral": lambda: MixtralConfig(**_SIZES, num_local_experts=4),
    "gpt-oss": lambda: GptOssConfig(
        **{**_SIZES, **_HEADS, "num_local_experts": 4, "num_experts_per_tok": 2},
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "qwen3-next": lambda: Qwen3NextConfig(
        **{**_SIZES, **_HEADS, **_EXPERTS, **_LINEAR},
        shared_expert_intermediate_size=32,
        layer_types=["linear_attention", "full_attention"],
    ),
    "qwen3.5": lambda: Qwen3_5TextConfig(
        **_SIZES, **_HEADS, **_LINEAR, layer_types=["linear_attention", "full_attention"]
    ),
    "lfm2": lambda: Lfm2Config(**_SIZES, layer_types=["conv", "full_attention"]),
    "jamba": lambda: JambaConfig(
        **_SIZES,
        num_experts=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=8,
        use_mamba_kernels=False,
    ),
}
#: Of these, the ones whose layers carry a state.
RECURRENT = ("qwen3-next", "qwen3.5", "lfm2", "jamba")


def save_tokenizer(
    folder: Path, template: str = CHATML, *, marks: tuple[str, ...] = SPECIAL, **special: str
) -> None:
    """Byte level; `<end>` ends a turn, `<eos>` is what the tokenizer calls its end.

    marks: control tokens, in the order of their ids.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([*marks])  # in this order, after the alphabet
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", **special}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **names)
    tokenizer.save_pretrained(folder)


def save_family(folder: Path, family: str, *, scale: float = 3.0) -> Path:
    """A random model of a family; weights wider than at its birth, so that nothing is flat."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config((CONFIGS | OTHER_CONFIGS)[family]())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "vision" not in name:
                parameter.mul_(scale)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


#: The outlier's place: a residual channel and a row of the first layer's MLP.
_CHANNEL, _ROW = 3, 0


def save_planted(folder: Path, *, written: float, product: float = 2e5) -> Path:
    """A tiny Qwen2 with what trained ones have, at the token that opens every chat.

    Its residual has a channel at 10⁴; the first MLP's product reaches about `product` there, of
    which down_proj writes the share `written` back into the residual.
    """
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["qwen2"]())
    width = model.config.hidden_size
    opening = 256 + SPECIAL.index("<|user|>")
    layer = model.model.layers[0]
    # After the norm the channel holds √D whatever it was; gate and up stay below float16's limit.
    weight = (product / width) ** 0.5
    with torch.no_grad():
        model.model.embed_tokens.weight[opening, _CHANNEL] = 1e4
        layer.post_attention_layernorm.weight[_CHANNEL] = 1.0
        layer.mlp.gate_proj.weight[_ROW, _CHANNEL] = weight
        layer.mlp.up_proj.weight[_ROW, _CHANNEL] = weight
        layer.mlp.down_proj.weight[:, _ROW] = 0.0
        layer.mlp.down_proj.weight[_CHANNEL, _ROW] = written
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder
