"""The engine of a chat, apart from where it is shown: what is said to a model and what comes back.

A chat is a list of messages that its owner keeps; the engine holds the model, how it samples, the
system turn that opens every chat, and what tells the probability of asking.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icpo_lite.core.thoughts import said
from icpo_lite.core.types import Message

if TYPE_CHECKING:
    from icpo_lite.evaluation.ask_threshold import AskingTalker, Prober
    from icpo_lite.policy.load import Policy
    from icpo_lite.rollout.sampler import SamplingOptions

#: A threshold that no probability is above: the model is never made to ask.
NEVER = 1.0


@dataclass(frozen=True)
class Asking:
    """What is known of a reply before it comes. p: probability that it asks. made: whether a
    threshold makes it ask."""

    p: float
    made: bool = False

    def __str__(self) -> str:
        return f"P(ask) {self.p:.2f}{', made to ask' * self.made}"


@dataclass(frozen=True)
class Reply:
    """One reply. text: as the model said it, its thought included."""

    text: str
    asking: Asking | None = None

    @property
    def spoken(self) -> str:
        """What the model reads later: without the thought."""
        return said(self.text)

    @property
    def nothing(self) -> str:
        """What is shown in place of a reply that says nothing; "" where it says something."""
        return "" if self.spoken else f"({'thought, and said ' * bool(self.text)}nothing)"


@dataclass(frozen=True)
class Talk:
    """A model that is talked to. opening: its system turn, if it has one. prober: None where the
    probability of asking is not wanted; source: where it comes from."""

    name: str
    policy: Policy
    sampling: SamplingOptions
    opening: tuple[Message, ...] = ()
    seed: int = 0
    prober: Prober | None = None
    source: str = ""

    def too_long(self, messages: Sequence[Message]) -> str:
        """Why a chat leaves no room for a reply; "" where it does."""
        room = self.policy.max_positions - self.sampling.max_new_tokens
        length = len(self.policy.encode_chat(messages))
        return f"the conversation has {length} tokens, room is for {room}" if length > room else ""

    def reply(
        self,
        messages: Sequence[Message],
        show: Callable[[str], None],
        *,
        adapter: bool = True,
        threshold: float = NEVER,
        foretell: Callable[[Asking], None] = lambda asking: None,
    ) -> Reply:
        """The model's next turn, shown as it comes; where it is made to ask, shown at once.

        adapter: False is the base. foretell: gets the probability of asking before the reply.
        """
        # After the model, since unsloth must be imported before transformers is.
        from icpo_lite.rollout import streaming

        key = ("chat", self.seed, len(messages))
        with contextlib.nullcontext() if adapter else self.policy.adapter_off():
            asking = self._asking(messages, threshold)
            if asking is not None:
                foretell(asking)
            if asking is not None and asking.made:
                text = self._question(messages, key, threshold)
                show(text)
            else:
                text = streaming.stream_reply(self.policy, messages, self.sampling, key, show)
        return Reply(text, asking)

    def _asking(self, messages: Sequence[Message], threshold: float) -> Asking | None:
        import numpy as np

        if self.prober is None:
            return None
        (p,) = self.prober.ask_probability([messages])
        return Asking(p, bool(self._talker(threshold).asks(np.array(p))))

    def _question(
        self, messages: Sequence[Message], key: tuple[int | str, ...], threshold: float
    ) -> str:
        (turn,) = self._talker(threshold).reply([messages], [key])
        return turn.content

    def _talker(self, threshold: float) -> AskingTalker:
        from icpo_lite.evaluation.ask_threshold import AskingTalker
        from icpo_lite.rollout.groups import PolicyTalker

        assert self.prober is not None
        return AskingTalker(PolicyTalker(self.policy, self.sampling), self.prober, threshold)


def open_talk(
    model: str,
    *,
    temperature: float,
    max_new_tokens: int,
    system: str | None = None,
    ask_cost: float | None = None,
    probing: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> Talk:
    """Load a run, a model folder or a name of the hub to talk to.

    system, ask_cost: the run's own where they are None. probing: tell the probability of asking,
    from an `eval` of the same run where there is one.
    """
    from icpo_lite.data.system_prompts import cost_words, system_words
    from icpo_lite.evaluation.ask_threshold import Prober, openings_for
    from icpo_lite.policy.from_recipe import load_model
    from icpo_lite.rollout.sampler import SamplingOptions

    policy, recipe = load_model(model, device=device)
    if system is None and recipe is not None:
        system = system_words(recipe.served_system_prompt, recipe.task)
    if ask_cost is None and recipe is not None:
        ask_cost = recipe.served_ask_cost
    system = "\n\n".join(filter(None, (system, cost_words(ask_cost))))
    sampling = SamplingOptions(min(max_new_tokens, policy.max_positions // 2), temperature)
    prober, source = None, ""
    if probing:
        openings, source = openings_for(policy, model)
        prober = Prober(policy, openings, temperature)
    opening = (Message("system", system),) if system else ()
    return Talk(Path(model).name, policy, sampling, opening, seed, prober, source)
