"""One forward pass over a group's prompt and its responses: P + G·R tokens, not G·(P + R).

Rows with equal prompts become one packed row [prompt, R1, R2, ..., RG] without padding, position
ids starting again after the prompt. All of a decoder layer but its attention treats tokens alone.
Attention is taken apart here: each prompt attends to itself, then each response to its prompt's
keys and to its own. So no token attends to a neighbour's, nothing is computed twice, and a layer
that is computed again in backward (gradient checkpointing) gets the same layout once more.
It enters transformers where an attention function is registered under a name, and calls the one
that the model had (soft caps, scales and windows included) on padded pieces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from icpo_lite.core.errors import ModelError
from icpo_lite.policy.layer_kinds import recurrent_layers

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Prefix of the registered names; what follows is the attention that the model was loaded with.
PREFIX = "shared_prompts_"
#: Kinds of attention layers whose masks are known here.
KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})


@dataclass
class Layout:
    """Where the tokens of a packed row [1, N] stand.

    prompts [U, P], responses [B, R]: places in the packed row, 0 where a shorter one is filled up.
    prompt_lengths [U]; owner [B]: the prompt of each response. back [N]: where each packed token
    stands in all prompts' and then all responses' places, laid end to end.
    input_ids, position_ids [1, N]; kept [n]: places whose hidden states meet lm_head, in the order
    of the loss mask's rows. layers: those that have attended, told apart by their identity, since
    a float16 decoder may be run twice (`half`).
    """

    input_ids: Tensor
    position_ids: Tensor
    prompts: Tensor
    prompt_lengths: Tensor
    responses: Tensor
    owner: Tensor
    back: Tensor
    kept: Tensor
    layers: set[int] = field(default_factory=set)
    _masks: dict[tuple[int | None, torch.dtype | None], tuple[Tensor | None, Tensor]] = field(
        default_factory=dict
    )

    def masks(self, window: int | None, dtype: torch.dtype | None) -> tuple[Tensor | None, Tensor]:
        """Masks of prompts [1, 1, P, P] (None: plain causal) and responses [B, 1, R, P + R].

        window: tokens that a query sees, itself included. dtype: None for booleans, True where
        attention is allowed, else a mask of that dtype to be added.
        """
        if (window, dtype) not in self._masks:
            causal, response = self._allowed(window)
            needs_mask = dtype is not None or (window or sys.maxsize) < self.prompts.shape[1]
            prompt = causal if needs_mask else None
            if dtype is not None:
                prompt, response = _additive(causal, dtype), _additive(response, dtype)
            self._masks[window, dtype] = prompt, response
        return self._masks[window, dtype]

    def _allowed(self, window: int | None) -> tuple[Tensor, Tensor]:
        device, reach = self.prompts.device, window or sys.maxsize
        width, length = self.prompts.shape[1], self.responses.shape[1]
        places = torch.arange(max(width, length), device=device)
        behind = places[:, None] - places[None, :]
        causal = (behind >= 0) & (behind < reach)
        prompt_end = self.prompt_lengths[self.owner][:, None, None]
        from_prompt = prompt_end + places[:length, None] - places[None, :width]
        to_prompt = (places[None, None, :width] < prompt_end) & (from_prompt < reach)
        to_itself = causal[None, :length, :length].expand(len(self.owner), -1, -1)
        both = torch.cat([to_prompt, to_itself], dim=-1)
        return causal[None, None, :width, :width], both[:, None]


def pack(input_ids: Tensor, loss_mask: Tensor) -> Layout:
    """The layout of padded rows [B, T] whose loss_mask [B, T-1] is True for some token.

    A row's prompt is what stands before its first loss token; rows without one are left out, and
    so is what comes after a row's last one.
    """
    device = input_ids.device
    ids, mask = input_ids.cpu().numpy(), loss_mask.cpu().numpy()
    prompts: dict[bytes, int] = {}  # token ids -> number
    heads: list[Any] = []
    tails, owner, columns = [], [], []
    for row, kept in zip(ids[mask.any(1)], mask[mask.any(1)], strict=True):
        # Column t speaks of token t + 1, and is computed from the tokens up to t.
        predicts = np.flatnonzero(kept)
        prompt = row[: predicts[0] + 1]
        owner.append(prompts.setdefault(prompt.tobytes(), len(prompts)))
        heads += [prompt] if owner[-1] == len(heads) else []
        tails.append(row[predicts[0] + 1 : predicts[-1] + 1])
        columns.append(predicts - predicts[0])
    pieces = [*heads, *tails]
    sizes = np.array([len(piece) for piece in pieces])
    starts = np.cumsum(sizes) - sizes
    count, after = len(heads), [0] * len(heads) + [len(heads[u]) for u in owner]
    positions = [first + np.arange(n) for first, n in zip(after, sizes, strict=True)]
    prompt_places, prompt_back = _padded(starts[:count], sizes[:count], 0)
    reply_places, reply_back = _padded(starts[count:], sizes[count:], prompt_places.size)
    kept_places = [
        # The first token is predicted by the prompt's last, token c + 1 by the reply's token c.
        np.where(c == 0, starts[u] + sizes[u] - 1, starts[count + i] + c - 1)
        for i, (u, c) in enumerate(zip(owner, columns, strict=True))
    ]

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return Layout(
        input_ids=tensor(np.concatenate(pieces))[None],
        position_ids=tensor(np.concatenate(positions))[None],
        prompts=tensor(prompt_places),
        prompt_lengths=tensor(sizes[:count]),
        responses=tensor(reply_places),
        owner=tensor(owner),
        back=tensor(np.concatenate([prompt_back, reply_back])),
        kept=tensor(np.concatenate(kept_places)),
    )


def _padded(starts: Any, lengths: Any, offset: int) -> tuple[Any, Any]:
    """Places [n, longest] of pieces of a packed row, and where its tokens stand in them."""
    width = int(lengths.max())
    columns = np.arange(width)
    real = columns < lengths[:, None]
    places = np.where(real, starts[:, None] + columns, 0)
    return places, offset + real.reshape(-1).nonzero()[0]


def packed_hidden_states(policy: Policy, layout: Layout) -> Tensor:
    """Last hidden states [n, D] of the layout's kept places.

    Raises ModelError where the model does not call the attention that its configuration names.
    """
    decoder = policy.causal_lm.get_decoder()
    use_shared_attention(decoder.config)
    # A mask of four dimensions is handed on as it is; its values are not looked at.
    ignored = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=layout.input_ids.device)
    hidden = decoder(
        input_ids=layout.input_ids,
        attention_mask=ignored,
        position_ids=layout.position_ids,
        use_cache=False,
        shared_prompts=layout,
    ).last_hidden_state
    if len(layout.layers) != decoder.config.num_hidden_layers:
        raise ModelError(
            f"share_prompts: expected {decoder.config.num_hidden_layers} layers that attend "
            f"through transformers' interface, found {len(layout.layers)}; set share_prompts: false"
        )
    return hidden[0].index_select(0, layout.kept)


def why_not_shared(policy: Policy) -> str | None:
    """Why this model's prompts cannot be shared, None where they can."""
    if policy.backend.name == "unsloth":
        return "unsloth's decoder takes no mask of four dimensions in training"
    config = policy.causal_lm.get_decoder().config
    unknown = set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS
    unknown |= set(recurrent_layers(policy.causal_lm))
    if unknown:
        return f"layers of {', '.join(sorted(unknown))} see the order of the packed row"
    base = _loaded_attention(config)
    if "flash" in base and getattr(config, "attn_logit_softcapping", None) is not None:
        return f"{base} with a soft cap takes no mask; use attn_implementation: eager"
    if base not in ("eager", "sdpa") and "flash" not in base:
        return f"attention {base!r} takes no mask of four dimensions"
    return None


def use_shared_attention(config: Any) -> None:
    """Let the model call `shared_attention` around the attention that it was loaded with.

    It stays until `use_loaded_attention`, since checkpointed layers run again in backward; calls
    without a layout go through as before.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    base = _loaded_attention(config)
    name = PREFIX + base
    if config._attn_implementation == name:
        return
    AttentionInterface.register(name, shared_attention)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
    config._attn_implementation = name


def use_loaded_attention(policy: Policy) -> None:
    """The attention that the model was loaded with, by its own name."""
    config = policy.causal_lm.get_decoder().config
    if config._attn_implementation.startswith(PREFIX):
        config._attn_implementation = _loaded_attention(config)


def _loaded_attention(config: Any) -> str:
    return str(config._attn_implementation).removeprefix(PREFIX)


def shared_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    shared_prompts: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, Any]:
    """transformers' attention of a packed row: query [1, H, N, d] -> [1, N, H, d].

    Without `shared_prompts`, whatever attention the model was loaded with.
    """
    base = _loaded_attention(module.config)
    if shared_prompts is None:
        return _function(base, module)(module, query, key, value, attention_mask, **options)
    layout = shared_prompts
    layout.layers.add(id(module))
    # Kernels of flash attention take no mask; torch's own attention has them inside.
    attend = _function("sdpa" if "flash" in base else base, module)
    prompt_mask, response_mask = layout.masks(
        options.get("sliding_window"), query.dtype if base == "eager" else None
    )
    q, k, v = (_pieces(x, layout.prompts) for x in (query, key, value))
    outputs = [attend(module, q, k, v, prompt_mask, **options)[0]]
    if layout.responses.shape[1]:
        q, own_k, own_v = (_pieces(x, layout.responses) for x in (query, key, value))
        k = torch.cat([k.index_select(0, layout.owner), own_k], dim=2)
        v = torch.cat([v.index_select(0, layout.owner), own_v], dim=2)
        outputs.append(attend(module, q, k, v, response_mask, **options)[0])
    flat = torch.cat([out.flatten(0, 1) for out in outputs])
    return flat.index_select(0, layout.back)[None], None


def _pieces(packed: Tensor, places: Tensor) -> Tensor:
    """[1, H, N, d] at places [n, L] -> [n, H, L, d]."""
    chosen = packed[0].index_select(1, places.flatten())
    return chosen.unflatten(1, places.shape).transpose(0, 1)


def _function(name: str, module: Any) -> Callable[..., tuple[Tensor, Any]]:
    """The attention function of that name; `eager` is each model file's own."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, own)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, torch.finfo(dtype).min
    )
