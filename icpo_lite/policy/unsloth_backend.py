"""Loading through unsloth, and what has to be guarded against in it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.oom import is_out_of_memory
from icpo_lite.policy.libraries import first_line, version
from icpo_lite.policy.lora_targets import ALL, _linears, lora_targets, pefts_start
from icpo_lite.recipe.sections import PolicyKeys

if TYPE_CHECKING:
    from icpo_lite.core.device import Device
    from icpo_lite.recipe.sections import ModelKeys


#: unsloth cuts longer inputs off in silence, and sizes tables by this: more than any recipe takes.
UNSLOTH_LENGTH = 32_768


class UnslothLoader:
    """unsloth's FastLanguageModel: 4-bit, its LoRA, its gradient checkpointing."""

    def base(self, keys: ModelKeys, path: str, device: Device, quantise: bool) -> Any:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(path, trust_remote_code=keys.trust_remote_code)
        positions = int(config.get_text_config().max_position_embeddings)
        model, _ = _fast_language_model().from_pretrained(
            model_name=path,
            max_seq_length=min(positions, UNSLOTH_LENGTH),
            dtype=device.dtype,
            load_in_4bit=quantise or hasattr(config, "quantization_config"),
            device_map={"": device.torch_device},
            trust_remote_code=keys.trust_remote_code,
            use_gradient_checkpointing=_checkpointing(keys),
            # Else it loads a checkpoint of its own in this one's place, whose weights differ.
            use_exact_model_name=True,
            # Our tokenizer is the one in use.
            fix_tokenizer=False,
            **_beside(keys),
        )
        guard_decoder(model, device)
        return model

    def new_adapter(self, model: Any, keys: PolicyKeys) -> Any:
        if keys.lora_target_modules == ALL:
            targets = sorted({name.rpartition(".")[2] for name in _linears(model)})
        else:  # 2026.10.4 would take a text for a list of letters
            targets = list(lora_targets(model, keys.lora_target_modules))
        # peft's LoraConfig gets it; older releases do not name it.
        dora = {"use_dora": True} if keys.use_dora else {}
        try:
            wrapped = _fast_language_model().get_peft_model(
                model,
                r=keys.lora_r,
                target_modules=targets,
                lora_alpha=keys.lora_alpha,
                lora_dropout=keys.lora_dropout,
                bias="none",
                use_gradient_checkpointing=_checkpointing(keys),
                random_state=keys.seed,
                use_rslora=keys.use_rslora,
                init_lora_weights=pefts_start(keys),
                **dora,
            )
        # unsloth asserts that it knows each name; peft beneath it raises ValueError for names that
        # no layer has, or one that is not linear.
        except (AssertionError, ValueError) as error:
            raise UsageError(
                f"lora_target_modules: unsloth refuses them ({first_line(error)}); use names of "
                "this model's layers, or backend: transformers"
            ) from None
        # LoRA of a kind that it has no fast path for, or targets that it reads in another way.
        except (NotImplementedError, RuntimeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            raise UsageError(
                f"backend: unsloth cannot add this LoRA ({first_line(error)}); use backend: "
                "transformers"
            ) from None
        for config in wrapped.peft_config.values():
            config.base_model_name_or_path = keys.model_name_or_path
        self.set_training(wrapped, True)
        check_causal(wrapped.get_base_model())
        return wrapped

    def set_training(self, model: Any, on: bool) -> None:
        """Its generation switches checkpointing off and sets flags that training must clear."""
        fast = _fast_language_model()
        if on:
            fast.for_training(model)
        else:
            fast.for_inference(model)


def _fast_language_model() -> Any:
    return importlib.import_module("unsloth").FastLanguageModel


def _beside(keys: ModelKeys) -> dict[str, Any]:
    """What loading the base has to know of the LoRA weights that come on top."""
    if not isinstance(keys, PolicyKeys):
        return {}
    return {"random_state": keys.seed, **(_vllm(keys) if keys.use_vllm else {})}


def _vllm(keys: PolicyKeys) -> dict[str, Any]:
    """How unsloth starts vLLM: its memory, and room for one adapter of this rank."""
    most = keys.vllm_max_num_seqs
    return {
        "fast_inference": True,
        "max_lora_rank": keys.lora_r,
        "gpu_memory_utilization": keys.vllm_gpu_memory_utilization,
        "unsloth_vllm_standby": keys.vllm_enable_sleep_mode,
        **({} if most is None else {"max_num_seqs": most}),
    }


def graph_scope() -> contextlib.AbstractContextManager[Any]:
    """unsloth's own scope for replies that are trained on, where its version has one.

    Inside it (as of 2026.10.9 on NVIDIA cards, for Llama and Qwen3) its `generate` replays a decode
    step from CUDA graphs; UNSLOTH_DECODE_CUDA_GRAPHS=0 switches that off. Elsewhere nothing.
    """
    try:
        found = importlib.import_module("unsloth.models._decode_graphs").rl_generation
    except (ImportError, AttributeError):
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = found()
    return scope


def started_with(model: Any, option: str) -> Any:
    """An option that the vLLM beside a model was started with; None without one, or without vLLM.

    Releases of vLLM keep them in two places.
    """
    inner = getattr(getattr(model, "vllm_engine", None), "llm_engine", None)
    for holder in (inner, getattr(inner, "vllm_config", None)):
        found = getattr(getattr(holder, "model_config", None), option, None)
        if found is not None:
            return found
    return None


def _checkpointing(keys: ModelKeys) -> str | bool:
    return "unsloth" if keys.gradient_checkpointing else False


def guard_decoder(model: Any, device: Device) -> None:
    """Make the decoder right when it is called alone, without the causal LM around it.

    Log-probs take hidden states from `get_decoder()`, before lm_head. unsloth's CausalLM forward
    is what hands its attention the causal mask (of xformers) and what its trainers wrap in
    autocast; releases before 2026.10 attend to later tokens when the decoder is called alone in
    training. So both are added here. The decoder also returns fp32 where its norms are kept in
    fp32; lm_head takes its own dtype.
    """
    decoder = model.get_decoder()
    inner = decoder.forward
    takes_mask = "causal_mask" in inspect.signature(inner).parameters
    mask = _xformers_mask() if takes_mask else None
    dtype = model.get_output_embeddings().weight.dtype

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if mask is not None and kwargs.get("past_key_values") is None:
            kwargs.setdefault("causal_mask", mask)
        with torch.autocast(
            device.torch_device.type, device.dtype, enabled=device.dtype is not torch.float32
        ):
            out = inner(*args, **kwargs)
        if hasattr(out, "last_hidden_state"):
            out.last_hidden_state = out.last_hidden_state.to(dtype)
        return out

    decoder.forward = forward


def _xformers_mask() -> Any:
    try:
        bias: Any = importlib.import_module("xformers.ops.fmha.attn_bias")
    except ImportError:
        return None  # unsloth takes SDPA or flash attention, both told to be causal
    return bias.LowerTriangularMask()


@torch.no_grad()
def check_causal(model: Any) -> None:
    """Raises ModelError when, in training mode, hidden states depend on later tokens.

    Two inputs that differ in their last token alone must agree before it.
    """
    width = 16
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(width, device=device)[None] % vocabulary
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % vocabulary
    both = [
        model.get_decoder()(input_ids=x, attention_mask=torch.ones_like(x), use_cache=False)
        for x in (ids, other)
    ]
    first, second = (out.last_hidden_state[:, :-1].float() for out in both)
    # Equal shapes run equal kernels: rounding alone does not tell them apart.
    apart = float((first - second).abs().max() / first.abs().max())
    if apart > 1e-3:
        raise ModelError(
            f"unsloth {version('unsloth')} lets tokens see later ones when hidden states are "
            f"taken before lm_head (they move by {apart:.1%}); update unsloth, or use backend: "
            "transformers"
        )
