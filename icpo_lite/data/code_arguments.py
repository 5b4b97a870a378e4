"""Which sentences of a coding task tell of its arguments alone, and no part of what to do.

"You are given a positive integer n.", "You may assume that the list is sorted.", "Return None if
there is no such element.": no requirement goes with one of these.
"""

from __future__ import annotations

import re

#: The name that stands for one that would tell what the function does.
NO_NAME = "solve"
DEFINITION = re.compile(r"^(?:async )?(?:def|class)\s+(\w+)", re.MULTILINE)
#: A sentence that tells of the arguments: what is given, what they hold, what may be assumed.
_OF_ARGUMENTS = re.compile(
    r"(?:you(?:'re| are| will be) given|(?:the )?(?:input|argument|parameter)s?\b|assume\b"
    r"|you (?:can|may) assume|(?:the (?:given |input )?(?:list|array|string"
    r"|number|integer|matrix|dictionary|words?|text)|all (?:elements|numbers|words)|[a-zA-Z]|both"
    r"|the (?:length|elements))\b.{0,80}?\b(?:is guaranteed|are guaranteed|will be|will only|will"
    r" not|contains? only|is always|are always|will always|consists? of)"
    r"|there (?:is|are|will be)\b)",
    re.IGNORECASE,
)
_NOTE = re.compile(r"(?:please )?note(?: that|:)? ", re.IGNORECASE)
_NOTHING = (
    r"\b(?:empty|no such|not exist|n't exist|not found|(?:is|are|contains?|has|have) no|isn't any"
    r"|none|invalid|not valid|didn't find)\b"
)
#: A sentence that tells what comes out where there is nothing to do.
_OF_NOTHING = re.compile(
    rf"(?:if|when|in case)\b.{{0,50}}{_NOTHING}.{{0,50}}\breturn\b.{{0,30}}"
    rf"|(?:(?:it|the function|you) should )?return .{{1,30}}\b(?:if|when|for)\b.{{0,30}}{_NOTHING}"
    r".{0,40}",
    re.IGNORECASE,
)
#: Words of a sentence that tells what to do with them, or what comes out.
_ASKS = re.compile(
    r"\b(?:return\w*|output\w*|find|determine|task|goal|implement|write|create|compute|calculate"
    r"|check|should|must|need|function (?:that|which|takes)|convert|sort\w*|count\w*|replace\w*"
    r"|remove\w*|order\w*|represent\w*|number of|sum|result|answer|print|if|otherwise|equal\w*"
    r"|called|defined|means?|such that|valid|denote\w*|rule\w*|follow\w*|and you)\b|\?|[:=]",
    re.IGNORECASE,
)


def is_of_arguments(sentence: str) -> bool:
    """Whether a sentence tells of the arguments alone, so that it can stay where the task goes."""
    sentence = _NOTE.sub("", sentence)
    if _OF_NOTHING.fullmatch(sentence):
        return True
    return bool(_OF_ARGUMENTS.match(sentence)) and not _ASKS.search(sentence)
