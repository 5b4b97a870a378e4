"""Loading through transformers, peft and bitsandbytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from icpo_lite.core.errors import UsageError
from icpo_lite.policy.four_bits import nf4_round_trip
from icpo_lite.policy.libraries import first_line, hide_loading_bar, import_uncompiled
from icpo_lite.policy.lora_targets import lora_targets, pefts_start

if TYPE_CHECKING:
    from icpo_lite.core.device import Device
    from icpo_lite.recipe.sections import ModelKeys, PolicyKeys


class TransformersLoader:
    """transformers, bitsandbytes' NF4 with double quantisation, peft."""

    def base(self, keys: ModelKeys, path: str, device: Device, quantise: bool) -> Any:
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = {
            "dtype": device.dtype,
            "device_map": {"": device.torch_device},
            "trust_remote_code": keys.trust_remote_code,
            # Other formats are pickles, which run code when they are read.
            "use_safetensors": True,
        }
        if keys.attn_implementation is not None:
            options["attn_implementation"] = keys.attn_implementation
        if quantise:
            options["quantization_config"] = _nf4(device.dtype)
            if device.torch_device.type == "cpu":  # which has kernels
                import_uncompiled("bitsandbytes")
                # Its operators ask for torch's compiler at their first call, which here is late.
                nf4_round_trip(device.torch_device)
        hide_loading_bar()
        return AutoModelForCausalLM.from_pretrained(path, **options)

    def new_adapter(self, model: Any, keys: PolicyKeys) -> Any:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=keys.lora_r,
            lora_alpha=keys.lora_alpha,
            lora_dropout=keys.lora_dropout,
            target_modules=lora_targets(model, keys.lora_target_modules),
            use_rslora=keys.use_rslora,
            use_dora=keys.use_dora,
            init_lora_weights=pefts_start(keys),
            task_type="CAUSAL_LM",
        )
        # What adapter_config.json names as the base; peft takes it from the model.
        config.base_model_name_or_path = model.name_or_path = keys.model_name_or_path
        torch.manual_seed(keys.seed)
        try:
            wrapped = get_peft_model(model, config)
        except ValueError as error:
            raise UsageError(
                f"lora_target_modules: {first_line(error)}; use all-linear or names of its layers"
            ) from None
        if keys.gradient_checkpointing:
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
