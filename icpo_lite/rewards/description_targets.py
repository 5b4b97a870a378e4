"""Is a question about a coding task without a description on target? It asks what it should do.

Words of the removed description cannot tell: whoever was given a header alone cannot know them.

The tables: Written by hand; no figure of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re
from dataclasses import replace

from icpo_lite.core.types import Prompt
from icpo_lite.rewards.question_targets import Aim, asked

#: A removed value as a fact of its own ("The year is 2014."), which a question can name.
_VALUE = re.compile(r'(?:In ".{1,200}?", t|T)he .{1,60}?(?: is | are |: )|Take \S+ = ')
_WHAT_IT_DOES = re.compile(
    r"\b(?:do|does|doing|perform|compute|calculate|return|output|produce|accomplish|achieve|behave"
    r"|solve|implement|purpose|goal|aim|task|problem|logic|behaviou?r|requirements?|specification"
    r"|description|functionality|operation|supposed)\b",
    re.IGNORECASE,
)


def lacks_description(prompt: Prompt) -> bool:
    """Whether a prompt of a coding task holds none of the problem's facts: a header alone."""
    facts = {s.shard_id for s in prompt.shards if not s.is_question}
    gone = {s.shard_id for s in prompt.removed}
    if prompt.task != "code" or not gone or gone != facts:
        return False
    return not _VALUE.match(prompt.removed[0].text)


def with_description(prompt: Prompt, reply: str, found: Aim) -> Aim:
    """The aim of a reply, where a question for what the function does hits what is missing."""
    if not lacks_description(prompt):
        return found
    hits = sum(_asks_what_it_does(unit, prompt) for unit in asked(reply))
    return replace(found, hits=max(found.hits, hits))


_NAMED = re.compile(r"\bdef (\w+)|`(\w+)\(")


def _asks_what_it_does(unit: str, prompt: Prompt) -> bool:
    """ "What should solve do?", and not "What is the length of the list?"."""
    named = {name.lower() for pair in _NAMED.findall(prompt.text) for name in pair if name}
    words = {word.lower() for word in re.findall(r"\w+", unit)}
    return bool(_WHAT_IT_DOES.search(unit) and words & {"function", "program", "code", *named})
