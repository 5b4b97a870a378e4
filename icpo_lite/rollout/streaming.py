"""One reply, shown as it comes: transformers' own `generate` and streamer, for chats."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import TextStreamer

from icpo_lite.core.types import Message
from icpo_lite.policy.inherited_options import generation_config
from icpo_lite.rollout.sampler import Key, SamplingOptions

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy


class _Pieces(TextStreamer):
    """Hands on what is sure to stay as it is, word by word, and remembers all of it."""

    def __init__(self, policy: Policy, show: Callable[[str], None]) -> None:
        super().__init__(policy.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.said = ""
        self._show = show

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.said += text
        if text:
            self._show(text)


@torch.no_grad()
def stream_reply(
    policy: Policy,
    messages: Sequence[Message],
    options: SamplingOptions,
    key: Key,
    show: Callable[[str], None],
) -> str:
    """The assistant's next turn; `show` gets it piece by piece. Equal keys, equal replies.

    A KeyboardInterrupt ends the reply: what was said so far is the turn; one that carries a
    signal's number ends the program. Runs in this thread, with
    the adapter on or off as the policy is.
    """
    device = policy.device.torch_device
    ids = torch.tensor([policy.encode_chat(messages)], device=device)
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=7).digest())
    torch.manual_seed(seed)
    pieces = _Pieces(policy, show)
    config = generation_config(
        max_new_tokens=options.max_new_tokens,
        eos_token_id=sorted(policy.end_ids),
        pad_token_id=policy.pad_id,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
    )
    try:
        policy.set_training(False)
        policy.causal_lm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            streamer=pieces,
        )
    except KeyboardInterrupt as error:
        if error.args:
            raise
        pieces.end()
    said = pieces.said.strip()
    return f"{policy.opened_thought}\n{said}" if policy.opens_thinking else said
