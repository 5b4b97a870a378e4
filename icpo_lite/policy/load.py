"""Load the policy: a 4-bit base with LoRA, its tokenizer, and why each choice was made."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from icpo_lite.core import thoughts
from icpo_lite.core.device import Device, choose_device
from icpo_lite.core.errors import ModelError, UsageError
from icpo_lite.core.files import read_json
from icpo_lite.core.paths import at_home, reads_as_path
from icpo_lite.core.types import Message
from icpo_lite.policy.adapters import (
    check_before_loading,
    empty_model,
    exchanged,
    new_lora,
    read_lora,
    save_lora,
    set_dtype,
)
from icpo_lite.policy.backends import Backend, choose_backend
from icpo_lite.policy.chat_template import chat_text
from icpo_lite.policy.cpu import set_threads, wants_4bit, with_own_dtype
from icpo_lite.policy.end_tokens import end_tokens
from icpo_lite.policy.four_bits import prepare_4bit, stored_quantisation
from icpo_lite.policy.fp16 import keep_finite
from icpo_lite.policy.inherited_options import keep_token_ids, plain_outputs, without_noise
from icpo_lite.policy.late_imports import imported_late
from icpo_lite.policy.layer_kinds import (
    adapted_of_experts,
    beyond_four_bits,
    check_mergeable,
    check_padding,
)
from icpo_lite.policy.libraries import why_and_what, without_collecting
from icpo_lite.policy.lora_starts import check_loftq, start_buffers
from icpo_lite.policy.lora_targets import is_multimodal
from icpo_lite.policy.start_adapter import with_own_keys
from icpo_lite.policy.template_options import (
    check_header,
    opened_thought,
    pin_template,
)
from icpo_lite.policy.tokenizer_files import save_beside_adapter
from icpo_lite.policy.unsloth_backend import started_with
from icpo_lite.policy.vocabulary import check_ids, check_vocabulary, rows_of
from icpo_lite.recipe.sections import ModelKeys, PolicyKeys

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from icpo_lite.policy.kernels.logprob import Impl

BUILTIN = {"builtin:tiny": "tiny"}


@dataclass
class ProvenOp:
    """The log-prob op's implementation for one model, once `logprobs.check_impl` has proved it."""

    impl: Impl | None = None


@dataclass(frozen=True)
class Policy:
    """A model, its tokenizer and the facts of the header.

    model: a peft model when `has_adapter`, else the bare causal LM.
    notes: why each fallback was taken, one sentence each.
    op: what the log-prob op was proved to be here, for all that ask with this model.
    start: LoRA weights that training began from, where these are another policy than the base.
    """

    keys: ModelKeys
    model: Any
    tokenizer: PreTrainedTokenizerBase
    device: Device
    backend: Backend
    has_adapter: bool
    notes: tuple[str, ...] = ()
    op: ProvenOp = field(default_factory=lambda: ProvenOp(), compare=False, repr=False)
    start: dict[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @property
    def causal_lm(self) -> Any:
        """The transformers model, LoRA layers inside it, without peft's wrapper."""
        return self.model.get_base_model() if self.has_adapter else self.model

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a reply: the tokenizer's, the model's own list, the chat template's."""
        listed = getattr(self.causal_lm.generation_config, "eos_token_id", None)
        return end_tokens(self.tokenizer, listed)

    @property
    def pad_id(self) -> int:
        """Token that fills up rows. It may equal an end token: masks do not come from it."""
        pad, rows = self.tokenizer.pad_token_id, rows_of(self.causal_lm)
        if pad is not None and pad < rows:
            return pad
        return min((i for i in self.end_ids if i < rows), default=0)

    @property
    def max_positions(self) -> int:
        positions = int(self.causal_lm.config.get_text_config().max_position_embeddings)
        # unsloth's own limit, beyond which it cuts inputs off, and that of vLLM beside it, which is
        # lower where its memory holds fewer keys and values.
        served = started_with(self.model, "max_model_len") or positions
        return min(positions, getattr(self.causal_lm, "max_seq_length", positions), served)

    def set_training(self, on: bool) -> None:
        """Switch dropout and gradient checkpointing on, or off for sampling with a KV cache."""
        if self.causal_lm.training is not on:
            self.backend.loader.set_training(self.model, on)

    def trainable(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def trainable_named(self) -> list[tuple[str, nn.Parameter]]:
        """With their names, in the order of the forward pass."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def parameter_counts(self) -> tuple[int, int]:
        """(trainable, all) numbers of weights; a packed 4-bit byte counts as two."""
        trainable = total = 0
        for p in self.model.parameters():
            count = p.numel() * (2 if p.__class__.__name__ == "Params4bit" else 1)
            total += count
            trainable += count if p.requires_grad else 0
        return trainable, total

    @contextlib.contextmanager
    def adapter_off(self) -> Iterator[None]:
        """The base: the same weights without LoRA."""
        with self.model.disable_adapter() if self.has_adapter else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """The policy that training began from: the base, but where LoRA began as another."""
        with exchanged(self.trainable_named(), self.start) if self.start else self.adapter_off():
            yield

    def start_tensors(self) -> dict[str, Tensor]:
        """All that says what training began from and is not in the base, by name."""
        return {**start_buffers(self.model), **self.start}

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of a chat up to and including the header that opens the assistant's turn."""
        return self.encode_text(chat_text(self.tokenizer, messages))

    def encode_chats(self, chats: Sequence[Sequence[Message]]) -> list[tuple[int, ...]]:
        """As `encode_chat` for each; equal ones once, and one call of the tokenizer for all."""
        places: dict[tuple[Message, ...], int] = {}
        which = [places.setdefault(tuple(chat), len(places)) for chat in chats]
        texts = [chat_text(self.tokenizer, chat) for chat in places]
        if not texts:
            return []
        found = [tuple(i) for i in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]
        rows = rows_of(self.causal_lm)
        for ids in found:
            check_ids(self.keys.model_name_or_path, ids, rows)
        return [found[place] for place in which]

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of a text as it stands. Raises ModelError at one that the model has no row
        for."""
        ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        check_ids(self.keys.model_name_or_path, ids, rows_of(self.causal_lm))
        return ids

    @cached_property
    def opened_thought(self) -> str:
        """The mark by which the template opens a block of thoughts where prompts end, or ""."""
        return opened_thought(self.tokenizer)

    @property
    def opens_thinking(self) -> bool:
        return bool(self.opened_thought)

    @property
    def shut_thought(self) -> str:
        """What stands before a reply that does not think, where the prompt has opened a thought."""
        return f"\n{thoughts.shutting(self.opened_thought)}\n\n" if self.opens_thinking else ""

    def decode_reply(self, token_ids: Sequence[int]) -> str:
        """What was said, with the opening of its thoughts where the prompt has written that."""
        text = self.decode(token_ids)
        return f"{self.opened_thought}\n{text}" if self.opens_thinking else text

    def decode(self, token_ids: Sequence[int]) -> str:
        """A text without control tokens, but for those that thoughts are told by."""
        left_out = self._left_out
        ids = [i for i in token_ids if i not in left_out]
        # A tokenizer may ask for blanks before punctuation to be taken out: not what was said.
        text = self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text).strip()

    @cached_property
    def _left_out(self) -> frozenset[int]:
        """Control tokens that a text is written without."""
        added = self.tokenizer.added_tokens_decoder
        control = {i for i, t in added.items() if t.special} | {*self.tokenizer.all_special_ids}
        marks = {i for i, t in added.items() if thoughts.marks_thought(str(t.content))}
        return frozenset(control - marks)

    def save_adapter(self, folder: Path) -> None:
        """Adapter files that peft and transformers load, and the tokenizer beside them."""
        save_lora(self.model, folder)
        save_beside_adapter(self.tokenizer, folder)


def model_path(name: str) -> str:
    """A local folder for `builtin:` names, else the name itself (a folder or a hub id)."""
    if name in BUILTIN:
        return str(resources.files("icpo_lite") / "assets" / BUILTIN[name])
    if name.startswith("builtin:"):
        raise UsageError(
            f"model_name_or_path: expected one of {', '.join(BUILTIN)}, a folder or a hub name, "
            f"got {name!r}"
        )
    local = at_home(name).is_dir()
    looks_local = local or reads_as_path(name)
    if looks_local and not local:
        raise UsageError(
            f"model_name_or_path: no folder {name!r}; give a folder with config.json, a hub name "
            "such as Qwen/Qwen2.5-1.5B-Instruct, or builtin:tiny"
        )
    return str(at_home(name)) if looks_local else name


def load_tokenizer(
    name: str,
    *,
    trust_remote_code: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    chat_template_date: str | None = None,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, its chat template given these options on that day.

    Raises ModelError when it has no chat template, or one that loses what it is given; UsageError
    for an option that the template does not read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = model_path(name)
    # AutoTokenizer goes by config.json's model_type: beside a qwen2 config it builds a Qwen2
    # tokenizer, whatever tokenizer.json says, and a word-level vocabulary gets wrong ids.
    declared = Path(path) / "tokenizer_config.json"
    with _one_line_errors(name):
        said = read_json(declared.read_text()) if declared.is_file() else {}
        kind = said.get("tokenizer_class") if isinstance(said, dict) else None
        if kind in ("PreTrainedTokenizerFast", "TokenizersBackend"):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
        else:
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name}: its tokenizer has no chat template, which turns need; use an instruct model"
        )
    tokenizer.padding_side = "left"
    with _one_line_errors(name):
        pin_template(tokenizer, chat_template_kwargs or {}, chat_template_date)
        check_header(tokenizer)
    return tokenizer


def tokenizer_of(keys: ModelKeys) -> PreTrainedTokenizerBase:
    """The tokenizer that a recipe's keys ask for."""
    return load_tokenizer(
        keys.model_name_or_path,
        trust_remote_code=keys.trust_remote_code,
        chat_template_kwargs=keys.chat_template_kwargs,
        chat_template_date=keys.chat_template_date,
    )


def prepare(keys: ModelKeys) -> tuple[Device, Backend]:
    """The device and the backend of a run, unsloth imported if it is that.

    A command calls this before anything else that may import transformers, such as a user's own
    reward functions; calling it again changes nothing.
    """
    device = choose_device(keys.device, keys.dtype)
    if device.torch_device.type == "cuda":
        # Triton launches on the current device, whatever device its tensors are on.
        torch.cuda.set_device(device.torch_device)
    return device, choose_backend(keys, device)


@without_collecting()
def load_policy(
    keys: ModelKeys,
    *,
    adapter: Path | None = None,
    trainable: bool = True,
    threads: int | None = None,
) -> Policy:
    """The model as the keys say, in evaluation mode.

    Keys with those of LoRA among them (PolicyKeys, a recipe) give it LoRA weights: those in the
    folder `adapter`, which learn if `trainable`, else those of `adapter_name_or_path`, else fresh
    ones seeded by `seed`, which begin as `init_lora_weights` says. threads: at most so many on a
    CPU, None for all cores.
    """
    fresh = adapter is None and isinstance(keys, PolicyKeys)
    if adapter is None and isinstance(keys, PolicyKeys):
        keys = with_own_keys(keys)
    device, backend = prepare(keys)
    on_cpu = device.torch_device.type == "cpu"
    with imported_late() if on_cpu else contextlib.nullcontext():
        return _loaded(keys, device, backend, adapter, fresh, trainable, threads)


def _loaded(
    keys: ModelKeys,
    device: Device,
    backend: Backend,
    adapter: Path | None,
    fresh: bool,
    trainable: bool,
    threads: int | None,
) -> Policy:
    """`load_policy`, all but the choice of device and backend."""
    notes = list(device.reasons)
    # At import it advises to install a package for 4-bit kernels that a CPU does without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    path = model_path(keys.model_name_or_path)
    with _one_line_errors(keys.model_name_or_path):
        stored = stored_quantisation(_text_config(path, keys))
        weights, in_4bit, said = _weights(path, keys, device), False, ""
        device, why = with_own_dtype(keys, device, weights)
        notes.append(why)
        if not stored:
            in_4bit, said = wants_4bit(keys, device, weights)
        if fresh and isinstance(keys, PolicyKeys):
            check_before_loading(keys, path)
    if isinstance(keys, PolicyKeys) and keys.init_lora_weights == "loftq" and fresh:
        check_loftq(keys, in_4bit, stored)
    if keys.load_in_4bit == "auto":
        keys = keys.model_copy(update={"load_in_4bit": in_4bit or bool(stored)})
    notes.append(said)
    tokenizer = tokenizer_of(keys)
    if mark := opened_thought(tokenizer):
        notes.append(f"the chat template opens {mark} in the prompt: replies are read as thoughts")
    if stored:
        notes.append(f"the checkpoint is quantised already ({stored}) and is taken as it is")
    with _one_line_errors(keys.model_name_or_path):
        model = backend.loader.base(keys, path, device, in_4bit)
    model.config.use_cache = True
    notes.append(check_vocabulary(keys.model_name_or_path, tokenizer, rows_of(model)))
    if in_4bit:
        notes.append(beyond_four_bits(model))
    keep_token_ids(model)
    plain_outputs(model)
    if noise := without_noise(model):
        notes.append(
            f"the checkpoint's own {', '.join(noise)} is switched off: training must compute what "
            "was sampled"
        )
    if is_multimodal(model.config):
        notes.append("the model's text decoder alone is used and trained; no images, no sound")
    if device.torch_device.type == "cpu":
        notes.append(set_threads(model, threads))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    prepare_4bit(model, device)
    start: dict[str, Tensor] = {}
    if adapter is not None:
        with _one_line_errors(str(adapter)):
            model = read_lora(model, adapter, trainable=trainable)
    elif isinstance(keys, PolicyKeys):
        lora = new_lora(model, keys, backend.loader, path)
        model, start = lora.model, lora.start
    has_adapter = adapter is not None or isinstance(keys, PolicyKeys)
    if isinstance(keys, PolicyKeys):
        set_dtype(model, getattr(torch, keys.lora_dtype))
        if trainable:
            check_mergeable(model.get_base_model())
            notes.append(adapted_of_experts(model.get_base_model()))
    policy = Policy(keys, model, tokenizer, device, backend, has_adapter, start=start)
    backend.loader.set_training(model, False)
    policy.encode_chat([Message("user", _PROBE)])  # a template may write tokens without a row
    if device.dtype is torch.float16:
        probe = policy.encode_chat([Message("user", _PROBE)])
        notes += keep_finite(policy.causal_lm, probe)
    notes += [check_padding(policy), _context_cut(policy)]
    return replace(policy, notes=tuple(filter(None, notes)))


#: Text on which a float16 model is tried: overflows sit at a text's first tokens and delimiters.
_PROBE = "Ann has 3 apples.\nBen has 4 more than Ann, and Kim twice as many.\nHow many are there?"


def _context_cut(policy: Policy) -> str:
    """A note where fewer positions are used than the model has, "" where all are."""
    own = int(policy.causal_lm.config.get_text_config().max_position_embeddings)
    if policy.max_positions >= own:
        return ""
    return f"{policy.backend.name} keeps {policy.max_positions:,} of the model's {own:,} positions"


def _text_config(path: str, keys: ModelKeys) -> Any:
    """The model's configuration. Raises UsageError where transformers has no text model for it."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(path, trust_remote_code=keys.trust_remote_code)
    kind = str(config.model_type)
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own_code:
        also = "also sees" if hasattr(config, "vision_config") else "is none"
        raise UsageError(
            f"model_name_or_path: expected a model that writes text alone, found {kind}, which "
            f"{also}; icpo-lite trains no images: use a text model, such as the one that it was "
            "made of"
        )
    return config


def _weights(path: str, keys: ModelKeys, device: Device) -> int:
    """How many weights a model has, by its configuration; 0 on a GPU, where nobody asks."""
    if device.torch_device.type != "cpu":
        return 0
    model = empty_model(path, trust_remote_code=keys.trust_remote_code)
    return sum(p.numel() for p in model.parameters())


@contextlib.contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: cannot be loaded: {why_and_what(error, name)}") from error
