"""The two libraries that can load a model, behind one interface, and which of them a run takes.

`unsloth` patches transformers and peft when it is imported, so the choice comes before either of
them is: a run begins with `load.prepare`, and no module of the package imports transformers on the
way there.

What is relied on of unsloth was read from the sources of 2026.8.22, the oldest that is taken, and
2026.10.9; a test holds the names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from icpo_lite.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from icpo_lite.core.device import Device
    from icpo_lite.policy.load import ModelSpec

Name = Literal["unsloth", "transformers"]
#: unsloth cuts longer inputs off in silence, and sizes tables by this: more than any recipe takes.
UNSLOTH_LENGTH = 32_768
_LEAST_CAPABILITY = (7, 0)
_PATCHED = ("transformers", "peft")


@dataclass(frozen=True)
class Backend:
    """The library that loads and patches the model, and why it was taken."""

    name: Name
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {_version(self.name)}, {self.reason}"

    @property
    def loader(self) -> Loader:
        return UnslothLoader() if self.name == "unsloth" else TransformersLoader()


class Loader(Protocol):
    """What a backend does. `path` is a folder or a hub name; models come back frozen or with LoRA
    as the one thing that learns."""

    def base(self, spec: ModelSpec, path: str, device: Device, quantise: bool) -> Any:
        """The causal LM on the device; `quantise` makes it NF4 while it loads."""

    def new_adapter(self, model: Any, spec: ModelSpec) -> Any:
        """`model` inside peft's wrapper, with a fresh LoRA seeded by the spec."""

    def set_training(self, model: Any, on: bool) -> None:
        """Training mode with gradient checkpointing, or evaluation mode with a KV cache."""


# ------------------------------------------------------------------------------------- the choice


def choose_backend(spec: ModelSpec, device: Device) -> Backend:
    """The backend that a spec asks for, imported where its order matters.

    `auto` takes unsloth where it is installed and can run, and says why where not. Raises
    ModelError when `unsloth` is asked for and cannot be had.
    """
    if spec.backend == "transformers":
        return Backend("transformers", "as the recipe asks")
    against = _missing() or (_unsuitable(spec, device) if spec.backend == "auto" else "")
    against = against or _import_unsloth()
    if not against:
        why = "as the recipe asks" if spec.backend == "unsloth" else f"installed; {device.name}"
        return Backend("unsloth", why)
    if spec.backend == "unsloth":
        raise ModelError(
            f"backend: unsloth was asked for, but {against}; use backend: auto or transformers, or "
            "install it with pip install 'icpo-lite[cuda]'"
        )
    return Backend("transformers", against)


def _missing() -> str:
    return "" if importlib.util.find_spec("unsloth") else "unsloth is not installed"


def _unsuitable(spec: ModelSpec, device: Device) -> str:
    """Why unsloth, although installed, is left aside; "" where it is not."""
    if device.torch_device.type != "cuda":
        return "unsloth needs an NVIDIA GPU"
    capability = torch.cuda.get_device_capability(device.torch_device)
    if capability < _LEAST_CAPABILITY:
        return f"unsloth needs compute capability 7.0, this GPU has {capability[0]}.{capability[1]}"
    if device.dtype is torch.float32:
        return "unsloth's kernels are for 16 bit, dtype is float32"
    if spec.attn_implementation is not None:
        return "attn_implementation is set, and unsloth takes its own attention"
    return ""


def _import_unsloth() -> str:
    """Import unsloth, first of all; returns what stood against it."""
    if "unsloth" in sys.modules:
        return ""
    early = [name for name in _PATCHED if name in sys.modules]
    if early:
        return f"{early[0]} was imported before unsloth could patch it"
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        importlib.import_module("unsloth")
    except Exception as error:  # whatever its versions and drivers disagree about
        return f"unsloth cannot be imported ({first_line(error)})"
    return ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", ""))


# ----------------------------------------------------------------------------------- transformers


class TransformersLoader:
    """transformers, bitsandbytes' NF4 with double quantisation, peft."""

    def base(self, spec: ModelSpec, path: str, device: Device, quantise: bool) -> Any:
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = {
            "dtype": device.dtype,
            "device_map": {"": device.torch_device},
            "trust_remote_code": spec.trust_remote_code,
            # Other formats are pickles, which run code when they are read.
            "use_safetensors": True,
        }
        if spec.attn_implementation is not None:
            options["attn_implementation"] = spec.attn_implementation
        if quantise:
            options["quantization_config"] = _nf4(device.dtype)
        return AutoModelForCausalLM.from_pretrained(path, **options)

    def new_adapter(self, model: Any, spec: ModelSpec) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=spec.lora_r,
            lora_alpha=spec.lora_alpha,
            lora_dropout=spec.lora_dropout,
            target_modules=lora_targets(model, spec.lora_target_modules),
            task_type="CAUSAL_LM",
        )
        # What adapter_config.json names as the base; peft takes it from the model.
        config.base_model_name_or_path = model.name_or_path = spec.model_name_or_path
        torch.manual_seed(spec.seed)
        try:
            wrapped = get_peft_model(model, config)
        except ValueError as error:
            raise UsageError(
                f"lora_target_modules: {first_line(error)}; use all-linear or names of its layers"
            ) from None
        if spec.gradient_checkpointing:
            # Checkpointing recomputes only in training mode; see `logprobs`.
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return wrapped

    def set_training(self, model: Any, on: bool) -> None:
        model.train(on)


def _nf4(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def lora_targets(model: Any, wanted: str | tuple[str, ...]) -> str | list[str]:
    """peft's `target_modules`: of a model that also sees or hears, the text decoder's layers."""
    if not isinstance(wanted, str):
        return list(wanted)
    if not is_multimodal(model.config):
        return wanted
    return sorted(f"{_name_of(model.get_decoder(), model)}.{n}" for n in _linears(model))


def is_multimodal(config: Any) -> bool:
    return config.get_text_config() is not config


def _linears(model: Any) -> Iterator[str]:
    """Dotted names of the linear layers within the text decoder."""
    for name, module in model.get_decoder().named_modules():
        if isinstance(module, torch.nn.Linear):
            yield name


def _name_of(part: Any, model: Any) -> str:
    return next(name for name, module in model.named_modules() if module is part)


# ---------------------------------------------------------------------------------------- unsloth


class UnslothLoader:
    """unsloth's FastLanguageModel: 4-bit, its LoRA, its gradient checkpointing."""

    def base(self, spec: ModelSpec, path: str, device: Device, quantise: bool) -> Any:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(path, trust_remote_code=spec.trust_remote_code)
        positions = int(config.get_text_config().max_position_embeddings)
        model, _ = _fast_language_model().from_pretrained(
            model_name=path,
            max_seq_length=min(positions, UNSLOTH_LENGTH),
            dtype=device.dtype,
            load_in_4bit=quantise or hasattr(config, "quantization_config"),
            device_map={"": device.torch_device},
            trust_remote_code=spec.trust_remote_code,
            use_gradient_checkpointing=_checkpointing(spec),
            # Else it loads a checkpoint of its own in this one's place, whose weights differ.
            use_exact_model_name=True,
            # Our tokenizer is the one in use.
            fix_tokenizer=False,
            random_state=spec.seed,
            # vLLM keeps room for one adapter of this rank beside the weights.
            **({"fast_inference": True, "max_lora_rank": spec.lora_r} if spec.use_vllm else {}),
        )
        guard_decoder(model, device)
        return model

    def new_adapter(self, model: Any, spec: ModelSpec) -> Any:
        targets = spec.lora_target_modules
        if isinstance(targets, str):
            targets = tuple(sorted({name.rpartition(".")[2] for name in _linears(model)}))
        try:
            wrapped = _fast_language_model().get_peft_model(
                model,
                r=spec.lora_r,
                target_modules=list(targets),
                lora_alpha=spec.lora_alpha,
                lora_dropout=spec.lora_dropout,
                bias="none",
                use_gradient_checkpointing=_checkpointing(spec),
                random_state=spec.seed,
            )
        except (ValueError, AssertionError, TypeError, NotImplementedError) as error:
            raise UsageError(
                f"lora_target_modules: unsloth refuses them ({first_line(error)}); use names of "
                "this model's layers, or backend: transformers"
            ) from None
        for config in wrapped.peft_config.values():
            config.base_model_name_or_path = spec.model_name_or_path
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


def _checkpointing(spec: ModelSpec) -> str | bool:
    return "unsloth" if spec.gradient_checkpointing else False


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
            f"unsloth {_version('unsloth')} lets tokens see later ones when hidden states are "
            f"taken before lm_head (they move by {apart:.1%}); update unsloth, or use backend: "
            "transformers"
        )


def load_adapter(model: Any, folder: Path, *, trainable: bool) -> Any:
    """`model` inside peft's wrapper, with the adapter of a folder; the same for both backends."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
