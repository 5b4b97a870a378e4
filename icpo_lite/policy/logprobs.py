"""Hidden states to log-probs of what was sampled, always through `policy.kernels.logprob`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from icpo_lite.core.errors import ModelError, NumericsError
from icpo_lite.core.types import Message
from icpo_lite.policy.kernels.check import check_against_reference
from icpo_lite.policy.kernels.lm_head import frozen_lm_head
from icpo_lite.policy.kernels.logits import logit_options
from icpo_lite.policy.kernels.logprob import Impl, choose_impl, token_logprobs
from icpo_lite.policy.prompt_packing import pack, packed_hidden_states, use_loaded_attention
from icpo_lite.recipe.section import default_of
from icpo_lite.recipe.sections import TemperatureKeys

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy


#: Tokens on which a run tries the op before it starts.
CHECKED_TOKENS = 64


class LogprobOptions(TemperatureKeys):
    """temperature: that of sampling. impl, chunk_rows: of the op (`kernels.logprob`).

    shared_prompts: compute equal prompts of a batch once (`shared_prompts`).
    """

    impl: Impl = "auto"
    chunk_rows: int | Literal["auto"] = "auto"
    entropy_grad: bool = False
    shared_prompts: bool = False

    def __init__(
        self, temperature: float = default_of(TemperatureKeys, "temperature"), **options: Any
    ) -> None:
        super().__init__(temperature=temperature, **options)


def lm_head_options(policy: Policy) -> dict[str, Any]:
    """The op's arguments that belong to the model: weight, bias, soft cap and logit scale."""
    weight, bias = frozen_lm_head(policy.causal_lm.get_output_embeddings())
    return {"weight": weight, "bias": bias, **logit_options(policy.causal_lm.config)}


@torch.no_grad()
def check_impl(policy: Policy, token_ids: Sequence[int]) -> tuple[Impl, str]:
    """The op's implementation for this policy, proved on the user's own model, and a line on it.

    From then on it is what `auto` means wherever this policy's log-probs are computed.

    A prompt's hidden states go through the op and through the model's own logits; where they
    disagree more than rounding explains, the run falls back to plain chunks and says why.
    Raises ModelError when these disagree too: an lm_head that the op does not know.
    """
    device = policy.device.torch_device
    ids = torch.tensor([list(token_ids)[-CHECKED_TOKENS:]], device=device)
    hidden = hidden_states(policy, ids, torch.ones_like(ids))
    logits = policy.causal_lm(input_ids=ids).logits[0, :-1]
    options = lm_head_options(policy)
    chosen, why = choose_impl(device, hidden.dtype, "auto", options["weight"].shape)
    beside: tuple[Impl, ...] = ("triton", "torch") if chosen == "tiled" else ("torch",)
    for impl in dict.fromkeys((chosen, *beside)):
        check = check_against_reference(
            hidden[0, :-1], targets=ids[0, 1:], logits=logits, impl=impl, **options
        )
        if check.ok:
            policy.op.impl = impl
            reason = impl if impl in ("tiled", "triton") else f"{impl} ({why})"
            return impl, f"{reason}, off by {check.max_abs_error:.1e} at most on this model"
        why = check.reason
    raise ModelError(
        f"log-probs of this model cannot be trusted: {why}; use another model_name_or_path or dtype"
    )


def proved_impl(policy: Policy) -> Impl:
    """The implementation that `check_impl` found, tried now where nobody has asked yet."""
    if policy.op.impl is None:
        check_impl(policy, policy.encode_chat([Message("user", _PROBE)]))
    return policy.op.impl or "torch"


#: What an evaluation tries the op on; a run takes its own longest prompt.
_PROBE = "Ann has 3 apples and Ben has 4 more than Ann. How many apples do they have together?"


def hidden_states(policy: Policy, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Last hidden states [B, T, D], after the final norm and before lm_head."""
    _set_mode(policy)
    use_loaded_attention(policy)
    out: Tensor = policy.causal_lm.get_decoder()(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=False
    ).last_hidden_state
    return out


def _set_mode(policy: Policy) -> None:
    # Gradient checkpointing only acts in training mode; LoRA dropout is the one other thing
    # that the mode switches, and it belongs to training too. The mode must hold until backward,
    # where checkpointed layers run again; sampling switches back.
    policy.set_training(torch.is_grad_enabled())


def kept_hidden_states(
    policy: Policy, input_ids: Tensor, attention_mask: Tensor, loss_mask: Tensor, share: bool
) -> Tensor:
    """Hidden states [n, D] under the mask, row by row; equal prompts computed once if `share`."""
    if share and loss_mask.any():
        _set_mode(policy)
        return packed_hidden_states(policy, pack(input_ids, loss_mask))
    return hidden_states(policy, input_ids, attention_mask)[:, :-1][loss_mask]


def completion_logprobs(
    policy: Policy,
    input_ids: Tensor,
    attention_mask: Tensor,
    loss_mask: Tensor,
    options: LogprobOptions,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies [B, T-1] of the next tokens under the mask, fp32, 0 elsewhere.

    input_ids, attention_mask [B, T]; loss_mask [B, T-1]. Differentiable unless under no_grad.
    Only the rows under the mask meet lm_head. kept: their hidden states where they are there
    already (`kept_hidden_states`). Raises NumericsError on NaN.
    """
    impl = proved_impl(policy) if options.impl == "auto" else options.impl
    if kept is None:
        shared = options.shared_prompts
        kept = kept_hidden_states(policy, input_ids, attention_mask, loss_mask, shared)
    logp, entropy = token_logprobs(
        kept,
        targets=input_ids[:, 1:][loss_mask],
        temperature=options.temperature,
        impl=impl,
        chunk_rows=options.chunk_rows,
        entropy_grad=options.entropy_grad,
        **lm_head_options(policy),
    )
    if not torch.isfinite(logp.detach()).all():
        raise NumericsError(
            "log-probs: NaN or infinity from the model; expected finite numbers; use "
            "dtype: bfloat16 or float32, or a lower learning_rate"
        )
    zeros = torch.zeros(loss_mask.shape, dtype=torch.float32, device=loss_mask.device)
    return zeros.masked_scatter(loss_mask, logp), zeros.masked_scatter(loss_mask, entropy)


class PolicyScorer:
    """The base model as a `Scorer`, adapter off (types.Scorer)."""

    def __init__(self, policy: Policy, *, rows: int = 16):
        self._policy, self._rows = policy, rows

    @torch.no_grad()
    def score(
        self,
        chats: Sequence[Sequence[Message]],
        continuations: Sequence[Sequence[str]],
        *,
        mean: bool = False,
    ) -> list[list[float]]:
        """Sum, or mean, of token log-probs of every continuation of its chat's next turn."""
        policy = self._policy
        # What is scored are answers, not thoughts that the prompt may have opened.
        shut = policy.encode_text(policy.shut_thought)
        pairs = [
            (policy.encode_chat(chat) + shut, policy.encode_text(text))
            for chat, texts in zip(chats, continuations, strict=True)
            for text in texts
        ]
        with policy.adapter_off():
            sums = continuation_logprobs(policy, pairs, rows=self._rows)
        if mean:
            sums = [s / max(1, len(ids)) for s, (_, ids) in zip(sums, pairs, strict=True)]
        out, at = [], 0
        for texts in continuations:
            out.append(sums[at : at + len(texts)])
            at += len(texts)
        return out


@torch.no_grad()
def continuation_logprobs(
    policy: Policy, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, rows: int = 16
) -> list[float]:
    """Sum of log-probs of each continuation behind its context, in token ids; `rows` at once."""
    sums: list[float] = []
    for first in range(0, len(pairs), rows):
        sums += _sums(policy, pairs[first : first + rows])
    return sums


def _sums(policy: Policy, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    device = policy.device.torch_device
    width = max(len(a) + len(b) for a, b in pairs)
    ids = torch.full((len(pairs), width), policy.pad_id)
    mask = torch.zeros(len(pairs), width, dtype=torch.long)
    scored = torch.zeros(len(pairs), width, dtype=torch.bool)
    for i, (context, text) in enumerate(pairs):
        row = [*context, *text]
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        scored[i, len(context) : len(row)] = True
    ids, mask, scored = ids.to(device), mask.to(device), scored.to(device)
    logps, _ = completion_logprobs(policy, ids, mask, scored[:, 1:], LogprobOptions())
    return [float(x) for x in logps.sum(-1).tolist()]
