"""The probability that a policy asks, and a policy that is made to ask above a threshold.

P(ask | chat) comes from the log-prob op before anything is sampled: the openings of replies
(`evaluation.openings`) are scored, each counts by how often its replies ask. The openings and
their shares come from an evaluation of the same model where one lies beside it, else from a list
of words with which questions begin.

Above `ask_threshold` the model is made to ask: an opening that asks is drawn, in proportion to its
probability and its share, and the model goes on from there in its own words. Where the shares are 0
or 1 this is exactly its reply given that it asks. Below the threshold nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icpo_lite.core.files import read_json
from icpo_lite.core.types import Message, Turn
from icpo_lite.evaluation.openings import Openings, from_json
from icpo_lite.policy.dense_copies import dense_layers
from icpo_lite.policy.opening_logprobs import opening_logprobs
from icpo_lite.rollout.groups import PolicyTalker, as_turn
from icpo_lite.rollout.sampler import sample, uniforms

if TYPE_CHECKING:
    from icpo_lite.policy.load import Policy

#: Words with which a question to the user begins, where no evaluation says how this model asks.
QUESTION_WORDS = (
    *("How", "What", "Which", "Who", "When", "Where", "Could you", "Can you", "Would you"),
    *("Do you", "Does", "Is", "Are", "Please provide", "Please tell", "I need", "I would need"),
)
#: Share of asking replies from which an opening counts as one of a question.
ASKS = 0.5


@dataclass(frozen=True)
class Prober:
    """P(ask) of chats under a policy. temperature: that of sampling, which P(ask) speaks of."""

    policy: Policy
    openings: Openings
    temperature: float = 1.0
    rows: int = 64

    def logprobs(self, prompts_B: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probs [B, openings] after each prompt; equal prompts are scored once."""
        distinct = list(dict.fromkeys(map(tuple, prompts_B)))
        place = {ids: i for i, ids in enumerate(distinct)}
        with dense_layers(self.policy):
            scored = opening_logprobs(
                self.policy,
                distinct,
                self.openings.tokens,
                temperature=self.temperature or 1.0,
                rows=self.rows,
            )
        return scored[[place[tuple(ids)] for ids in prompts_B]]

    def ask_probability(self, chats: Sequence[Sequence[Message]]) -> list[float]:
        """P(ask) of the next turn of each chat."""
        if not chats:
            return []
        prompts = self.policy.encode_chats(chats)
        return self.openings.ask_probability(self.logprobs(prompts)).tolist()


def question_words(policy: Policy) -> Openings:
    """`QUESTION_WORDS` as this model's tokens, those left out that it has no word for."""
    unknown = policy.tokenizer.unk_token_id
    found: list[tuple[int, ...]] = []
    for words in QUESTION_WORDS:
        ids = policy.encode_text(words)
        if ids and unknown not in ids:
            found.append(ids)
    # None may begin with another, or its probability would count twice.
    free = [a for a in dict.fromkeys(found) if not any(b != a and a[: len(b)] == b for b in found)]
    return Openings(tuple(free), (1.0,) * len(free), 0.0)


def openings_for(policy: Policy, model: str) -> tuple[Openings, str]:
    """The openings to use for a model or run directory, and where they come from.

    model: "" for one that no evaluation speaks of.
    """
    folder = Path(model)
    places = [folder / "eval", *sorted(folder.glob(f"eval-*/{folder.name}"))] if model else []
    for place in places:
        try:
            rows = read_json((place / "eval.json").read_text())["calibration"]["openings"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # no evaluation, or one without q and q*
        return from_json(rows), f"openings of {place / 'eval.json'}"
    return question_words(policy), "words with which questions begin"


@dataclass(frozen=True)
class AskingTalker:
    """A policy that asks where P(ask) is above `threshold` (`conversation.Talker`)."""

    talker: PolicyTalker
    prober: Prober
    threshold: float

    def asks(self, probability: np.ndarray) -> np.ndarray:
        """Where P(ask) makes it ask; nowhere without an opening that does."""
        can = max(self.prober.openings.share, default=0.0) >= ASKS
        return (probability > self.threshold) & can

    def reply(
        self, chats: Sequence[Sequence[Message]], keys: Sequence[tuple[int | str, ...]]
    ) -> list[Turn]:
        """The next turn of each chat, a question wherever the threshold asks for one."""
        prompts = self.talker.encoded(chats)
        logps = self.prober.logprobs(prompts)
        asking = self.asks(self.prober.openings.ask_probability(logps))
        free = [i for i in range(len(chats)) if not asking[i]]
        made = [i for i in range(len(chats)) if asking[i]]
        turns: dict[int, Turn] = {}
        if free:
            said = self.talker.reply([chats[i] for i in free], [keys[i] for i in free])
            turns |= dict(zip(free, said, strict=True))
        if made:
            said = self._asked([prompts[i] for i in made], [keys[i] for i in made], logps[made])
            turns |= dict(zip(made, said, strict=True))
        return [turns[i] for i in range(len(chats))]

    def _asked(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[tuple[int | str, ...]],
        logps: np.ndarray,
    ) -> list[Turn]:
        """Replies that begin with an opening that asks."""
        policy, openings = self.talker.policy, self.prober.openings
        share = np.array(openings.share)
        # Of those that ask the likeliest counts 1: at a low temperature all may round to 0.
        logps_of = np.where(share >= ASKS, logps, -np.inf)
        weights = np.exp(logps_of - logps_of.max(axis=1, keepdims=True)) * share
        cumulative = weights.cumsum(axis=1)
        noise = np.array([uniforms((*key, "opening"), 1)[0] for key in keys])
        drawn = (cumulative <= noise[:, None] * cumulative[:, -1:]).sum(axis=1)
        begun = [openings.tokens[m] for m in drawn]
        longest = max(map(len, openings.tokens))
        options = self.talker.options.but(
            max_new_tokens=max(1, self.talker.options.max_new_tokens - longest)
        )
        groups = sample(
            policy,
            [[*ids, *opening] for ids, opening in zip(prompts, begun, strict=True)],
            n=1,
            options=options,
            keys_P=[(*key, "asked") for key in keys],
        )
        out = []
        for row, (opening, (rest,)) in enumerate(zip(begun, groups, strict=True)):
            ids = (*opening, *rest.token_ids)
            # The op gives an opening's log-prob as a whole; its tokens share it evenly.
            each = float(logps[row, drawn[row]]) / len(opening)
            turn = as_turn(rest)
            out.append(
                replace(
                    turn,
                    content=policy.decode(ids),
                    token_ids=ids,
                    logprobs=(each,) * len(opening) + rest.logprobs,
                )
            )
        return out
