"""Whether the written model says what the trained one says, measured on a few prompts.

Compared are log-probs of the trained policy's greedy replies: |difference| in nats, mean over
tokens. How much rounding alone may change is measured too, so that the bound is this model's own:
rounding to 4 bits on the two bases without the adapter, rounding to 16 bits by moving the written
weights by about as much again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from icpo_lite.core.errors import ModelError
from icpo_lite.core.files import json_rows
from icpo_lite.core.types import Intent, Message
from icpo_lite.policy.inherited_options import generation_config

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Mean difference, in nats a token, that computing in 16 bits explains by itself.
ROUNDING = 0.03
#: … and rounding to 4 bits, where the machine cannot load the 16-bit base to measure it.
ROUNDING_4BIT = 0.15
#: A rounding error is even over one place, a variance of 1/12 of it squared: that of moving so
#: great a share of the weights by a whole place.
MOVED = 1 / 12
#: Weights that are moved at once.
_AT_ONCE = 1 << 24
#: Tokens of a reply that are compared.
LONGEST = 64
_FALLBACK = (
    "Ann has 3 apples. Ann buys 4 apples. How many apples does Ann have?",
    "How many apples does Ann have after shopping?",
)

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """Prompts, the trained policy's greedy replies, and their log-probs with and without LoRA.

    ends: the tokens that end a reply.
    """

    prompts: tuple[Ids, ...]
    replies: tuple[Ids, ...]
    trained: Tensor
    base: Tensor
    ends: frozenset[int]


@dataclass(frozen=True)
class Parity:
    """What the comparison found; all but the counts in nats a token.

    difference, largest: written model against trained policy. noise: the two bases against each
    other. rounding: what rounding the written weights to 16 bits changes. effect: what the adapter
    changed when trained; kept: what it changes as written. same: replies that are equal, of
    `count`. ended: of the `should_end` replies of the trained one that end and whose end is the
    likeliest token here too, those after which nothing more comes.
    """

    difference: float
    largest: float
    noise: float
    rounding: float
    effect: float
    kept: float
    same: int
    ended: int
    should_end: int
    count: int

    @property
    def problem(self) -> str | None:
        """Why the written model is not the trained one, None when it is."""
        allowed = max(2 * self.noise, 2 * self.rounding, ROUNDING)
        if not self.difference <= allowed:  # NaN is a problem too
            return (
                f"log-probs differ by {self.difference:.3f} nats a token, expected at most "
                f"{allowed:.3f}, what rounding explains"
            )
        if self.kept < self.effect / 2:
            return (
                f"it behaves like the base: the adapter changes {self.effect:.3f} nats a token, "
                f"here {self.kept:.3f}"
            )
        if self.ended < self.should_end:
            return (
                f"{self.should_end - self.ended} of {self.should_end} replies do not end, though "
                "the trained ones do: wrong end tokens"
            )
        return None

    def __str__(self) -> str:
        return (
            f"{self.count} prompts: log-probs within {self.difference:.4f} nats a token of the "
            f"adapter's (largest {self.largest:.2f}; rounding alone {self.rounding:.4f} in 16 "
            f"bits, {self.noise:.4f} in 4; the adapter's effect {self.effect:.3f}), {self.same} "
            f"of {self.count} greedy replies equal"
        )


def check_prompts(run: Path, count: int) -> list[list[Message]]:
    """Prompts that the run was trained on, complete and underspecified in turn, newest first."""
    kinds: dict[str, list[list[Message]]] = {str(i): [] for i in Intent}
    seen: set[str] = set()
    for file in sorted((run / "completions").glob("step-*.jsonl"), reverse=True):
        for row in json_rows(file, "prompt_id", "intent"):
            chat = _chat(row.get("prompt"))
            if chat and row["prompt_id"] not in seen and row["intent"] in kinds:
                seen.add(row["prompt_id"])
                kinds[row["intent"]].append(chat)
        if min(map(len, kinds.values())) >= count:
            break
    mixed = [chat for pair in zip(*kinds.values(), strict=False) for chat in pair]
    rest = [chat for chats in kinds.values() for chat in chats if chat not in mixed]
    return (mixed + rest)[:count] or [[Message("user", text)] for text in _FALLBACK]


def _chat(rows: Any) -> list[Message]:
    """The turns of a completion's row; none where they are damaged."""
    try:
        return [Message(m["role"], m["content"]) for m in rows]
    except (LookupError, TypeError):
        return []


def reference(policy: Policy, chats: Sequence[Sequence[Message]]) -> Reference:
    """The trained policy's side. `policy`: base and adapter as they were trained."""
    prompts = tuple(policy.encode_chat(chat) for chat in chats)
    ends = policy.end_ids
    replies = tuple(greedy(policy, p, ends) for p in prompts)
    trained = logprobs(policy, prompts, replies)
    with policy.adapter_off():
        return Reference(prompts, replies, trained, logprobs(policy, prompts, replies), ends)


def compare(
    ref: Reference, written: Policy, base_logprobs: Tensor | None, *, in_4bit: bool = False
) -> Parity:
    """The written model's side. base_logprobs: those of the base it was merged into.

    None: that base is the NF4 one, whose log-probs `ref` holds, or it could not be loaded.
    in_4bit: the written model was loaded in 4 bits, because it does not fit otherwise. Its weights
    are moved at the end: it is of no more use.
    """
    found = logprobs(written, ref.prompts, ref.replies)
    base = ref.base if base_logprobs is None else base_logprobs
    replies = [greedy(written, p) for p in ref.prompts]
    tails = _ends_again(written, ref)
    move_by_rounding(written.causal_lm.parameters())
    moved = logprobs(written, ref.prompts, ref.replies)
    return Parity(
        difference=_mean(found - ref.trained),
        largest=float((found - ref.trained).abs().max()),
        noise=max(_mean(base - ref.base), ROUNDING_4BIT / 2 if in_4bit else 0.0),
        rounding=_mean(moved - found),
        effect=_mean(ref.trained - ref.base),
        kept=_mean(found - base),
        same=sum(a == b for a, b in zip(replies, ref.replies, strict=True)),
        ended=sum(len(tail) == 1 for tail in tails),
        should_end=len(tails),
        count=len(ref.prompts),
    )


def _ends_again(written: Policy, ref: Reference) -> list[Ids]:
    """What follows the trained one's finished replies without their last token, two tokens at most.

    Only where it begins with that end token. A wrong end makes a model talk past it, and a reply of
    its own that rounding leads elsewhere would show nothing of it.
    """
    finished = [i for i, reply in enumerate(ref.replies) if reply[-1] in ref.ends]
    tails = {i: greedy(written, ref.prompts[i] + ref.replies[i][:-1], longest=2) for i in finished}
    return [tail for i, tail in tails.items() if tail[0] == ref.replies[i][-1]]


@torch.no_grad()
def move_by_rounding(weights: Iterable[Tensor]) -> None:
    """Moves weights that are 16-bit numbers by as much as rounding to 16 bits has, at random.

    A share of them goes one place of its last digit up or down. Weights of 4 bits stay, vectors,
    which LoRA never touches, and what is no 16-bit number, whatever type holds it.
    """
    random = torch.Generator().manual_seed(0)
    for weight in weights:
        if weight.ndim < 2 or not weight.is_contiguous() or (places := _places(weight)) is None:
            continue
        for part in weight.view(-1).split(_AT_ONCE):
            drawn = torch.rand(part.shape, generator=random).to(part.device)
            up = (drawn < MOVED / 2).float() - (drawn > 1 - MOVED / 2).float()
            _, exponent = torch.frexp(part.float())
            place = torch.ldexp(torch.full_like(up, places.eps / 2), exponent)
            place.clamp_(min=places.tiny * places.eps)
            part += (up * place * (part != 0)).to(part.dtype)


def _places(weight: Tensor) -> torch.finfo | None:
    """The digits of the coarsest 16-bit type that holds the weight."""
    if not weight.is_floating_point():
        return None
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(weight, weight.to(dtype).to(weight.dtype)):
            return torch.finfo(dtype)
    return None


def _mean(difference: Tensor) -> float:
    return float(difference.abs().mean())


@torch.no_grad()
def greedy(
    policy: Policy, prompt: Ids, ends: frozenset[int] | None = None, longest: int = LONGEST
) -> Ids:
    """A reply by transformers' own `generate`: the likeliest token each time, whatever penalties
    generation_config.json holds. What ends it is read from there alone, unless `ends` says so."""
    ids = torch.tensor([prompt], device=policy.device.torch_device)
    known = policy.causal_lm.generation_config.eos_token_id
    out = policy.causal_lm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=generation_config(
            max_new_tokens=min(longest, policy.max_positions - len(prompt)),
            eos_token_id=known if ends is None else sorted(ends),
            pad_token_id=policy.pad_id,
        ),
    )
    return tuple(out[0, len(prompt) :].tolist())


@torch.no_grad()
def logprobs(policy: Policy, prompts: Sequence[Ids], replies: Sequence[Ids]) -> Tensor:
    """Log-probs of all replies' tokens in one row, fp32 on the CPU.

    Raises ModelError when the model gives numbers that are none.
    """
    rows = []
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = torch.tensor([[*prompt, *reply]], device=policy.device.torch_device)
        logits = policy.causal_lm(input_ids=ids, logits_to_keep=len(reply) + 1).logits[0, :-1]
        chosen = ids[0, len(prompt) :, None]
        rows.append(logits.float().log_softmax(-1).gather(-1, chosen).squeeze(-1).cpu())
    row = torch.cat(rows)
    if not torch.isfinite(row).all():
        raise ModelError(
            f"{policy.keys.model_name_or_path}: its log-probs are not finite in "
            f"{policy.device.dtype}; nothing can be compared, try --device cpu"
        )
    return row
