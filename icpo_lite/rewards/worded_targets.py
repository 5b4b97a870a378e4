"""Does a question ask for what a publisher says is missing? By the words of what they say.

A described point ("Duration of the trip") or a model question ("How long do you plan to stay?")
states no fact with a number, which `question_targets` compares questions with. What it is about are
the words that the prompt itself does not have.
"""

from __future__ import annotations

import re
from dataclasses import replace

from icpo_lite.core.types import Prompt
from icpo_lite.rewards.question_targets import Aim, asked
from icpo_lite.rewards.subject_keys import keys

#: A question that holds this much of what a point adds to the prompt asks for it.
_ENOUGH = 0.5


def with_wording(prompt: Prompt, reply: str, found: Aim) -> Aim:
    """The aim of a reply, where a question in a publisher's own words hits what is missing."""
    if prompt.certificate.level != "given" or not found.count:
        return found
    texts = (*(s.text for s in prompt.removed), *prompt.targets)
    own = keys(prompt.text)
    wanted = [new for t in texts if not re.search(r"\d", t) and (new := keys(t) - own)]
    hits = sum(any(_asks_for(unit, new) for new in wanted) for unit in asked(reply))
    return replace(found, hits=max(found.hits, hits))


def _asks_for(unit: str, wanted: frozenset[str]) -> bool:
    return len(keys(unit) & wanted) >= _ENOUGH * len(wanted)
