"""Is a question about a coding task on target that lacks its description, or one condition?

Without a description it asks what the function should do, without a condition it asks which, and
without the meaning of a word what that word means. Words of what was removed cannot tell: whoever
was not given them cannot know them.

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
    if _removed_condition(prompt):
        return False
    facts = {s.shard_id for s in prompt.shards if not s.is_question}
    gone = {s.shard_id for s in prompt.removed}
    if prompt.task != "code" or not gone or gone != facts:
        return False
    return not _VALUE.match(prompt.removed[0].text)


#: A removed condition, as `data/code_conditions.py` words it, or the meaning of a word.
_CONDITION = re.compile(r"The (?:certain (?P<what>\w+)|meaning of '(?P<term>[^']+)'): ")
_ASKS_CONDITION = {
    "condition": re.compile(
        r"\b(?:conditions?|criteri\w+|rules?|requirements?|propert(?:y|ies)|qualif\w+|certain"
        r"|which (?:elements?|items?|ones?|values?|entries|words?|numbers?)|filter\w*"
        r"|when (?:should|does|do|is|must)|holds?|counts? as|true\b.{0,30}\bwhen|meet|satisf\w+)\b",
        re.IGNORECASE,
    ),
    "value": re.compile(
        r"\b(?:what|which|how)\b.*\b(?:returns?|returned|values?|results?|outputs?|happens?|handled?"
        r"|done|do|give|given|behave|expected?|answer|treated|case)\b|\bcertain value\b"
        r"|\b(?:raise|error|exception)\b.*\?",
        re.IGNORECASE | re.DOTALL,
    ),
    "way": re.compile(
        r"\b(?:how|way|manner|rules?|by what|which scheme|method|what exactly)\b", re.IGNORECASE
    ),
    "order": re.compile(
        r"\b(?:order\w*|sort\w*|ascending|descending|arranged?|ranked|criteri\w+|key)\b", re.I
    ),
}


def _removed_condition(prompt: Prompt) -> str:
    """What a coding task lacks ("condition", "order", "numbers", "'happy'"), or ""."""
    gone = _CONDITION.match(prompt.removed[0].text) if prompt.removed else None
    if gone is None or prompt.task != "code":
        return ""
    return f"'{gone['term']}'" if gone["term"] else gone["what"].lower()


def _asks_which(unit: str, what: str) -> bool:
    """ "Which numbers do you mean?", and not "What type have the numbers?"."""
    if pattern := _ASKS_CONDITION.get(what):
        return bool(pattern.search(unit))
    if what.startswith("'"):
        return _asks_meaning(unit, what.strip("'"))
    thing = re.escape(what.removesuffix("s"))
    return bool(
        re.search(rf"\b(?:which|what|certain)\b(?: \w+){{0,2}} {thing}", unit, re.IGNORECASE)
    )


_MEANING = re.compile(
    r"\b(?:mean|means|meant|meaning|defin\w+|criteri\w+|conditions?|rules?|counts? as|makes?"
    r"|considered|qualif\w+|exactly|called|what is|what are|when is|how is|requirements?"
    r"|properties)\b",
    re.IGNORECASE,
)


def _asks_meaning(unit: str, term: str) -> bool:
    """ "When is a string happy?", and not "How long is the happy string?"."""
    named = all(re.search(rf"\b{re.escape(w[:5])}", unit, re.IGNORECASE) for w in term.split())
    return named and bool(_MEANING.search(unit))


def with_description(prompt: Prompt, reply: str, found: Aim) -> Aim:
    """The aim of a reply, where a question for what the function does, or for its condition, hits
    what is missing."""
    if what := _removed_condition(prompt):
        return replace(found, hits=sum(_asks_which(unit, what) for unit in asked(reply)))
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
