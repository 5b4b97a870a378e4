"""Sentences that are polite and ask for nothing that a task needs.

A phrase makes a courtesy only together with the rest of its sentence: "Would you like help?" is
one, "How many apples would you like me to count?" and "Is there anything else that Ann buys?" are
questions.

The tables: written by hand and tried on lic_turn_types_dev.jsonl, so figures on that file are of
data that the author has seen; a model held out is judged in `icpo_lite.tools.train_judge`.
tests/claims/tables.json has what each is worth alone: none changes a type on 164 rows; they matter
for what a question is paid.
"""

from __future__ import annotations

import re
from functools import lru_cache

from icpo_lite.core.sentences import BREAK

_OPENING = (
    r"(?:(?:so|now|okay|ok|well|great|good|and|but|also|alright|thanks|thank you|sure|hello|hi"
    r"|please let me know[:,]?|let me know[:,]?|otherwise|finally"
    r"|in the meantime)[,.!:;\s]{1,3}){0,2}"
)
_HELP = (
    r"(?:help|assist(?:ance)?|explain|clarif\w+|go|walk|show|elaborate|continue|proceed|try|break|"
    r"review|repeat|solve|(?:a |an |any |some |more |further |additional |another )+(?:\w+ )?"
    r"(?:help|assistance|hints?|examples?|explanations?|details|information|steps|problems?"
    r"|practice|questions?|clarification|guidance|support|one)|another|hints?|more|guidance|clarification|details|examples?|explanations?)"
)
_TO_YOU = r"(?: (?:for|to|with) (?:you|this|that|it|me|now))?"
_SENTENCES = (
    # does this make sense
    r"(?:does|do|did) (?:this|that|it|these|those|my|the)(?: \w+){0,3} (?:make|help|seem|look"
    r"|sound|work"
    r"|answer|clear)(?: \w+){0,6}",
    r"(?:is|are|was) (?:this|that|it|everything|all(?: of this| this| that)?|these|my \w+|the \w+)"
    r" (?:clear|right|correct|ok|okay|fine|good|helpful|understandable|what you (?:meant|mean"
    r"|need|needed"
    r"|want|wanted|expected|had in mind|were looking for|are looking for))(?: (?:so far|to you"
    r"|now|enough))?",
    r"(?:do|did) you (?:understand|follow|agree|see|get (?:it|that|this))(?: (?:this|that|it"
    r"|so far|now|me"
    r"|how (?:this|that|it) works|the \w+))?",
    # anything else, other questions
    r"(?:is|was) there (?:anything|something) (?:else|more)(?: (?:that )?(?:i|we) (?:can|could"
    r"|may|should)"
    r" (?:help|assist|do|explain|clarify).{0,60}| (?:that )?(?:you(?:'d| would)? (?:like|need"
    r"|want|wish)).{0,60}"
    r"| unclear)?",
    r"(?:anything|something) (?:else|more)",
    r"(?:do|would) you (?:still )?(?:have|need|want|like)(?: any| some)? ?(?:other|further|more"
    r"|additional"
    r"|anything)?(?: (?:questions?|help|assistance|information|doubts|concerns"
    r"|else))(?: (?:about|on|with|for"
    r"|regarding) (?:this|that|it|me|anything|the (?:problem|solution|answer|steps|task)).{0,40}"
    r"| with (?:anything|something) else)?",
    r"(?:any|are there any)(?: other| further| more)? (?:questions?|doubts|thoughts"
    r"|concerns)(?: so far| about"
    r" (?:this|that|it))?",
    r"(?:do you )?need (?:any |some |more |further )*(?:help|assistance)(?: with (?:this|that"
    r"|anything).{0,30})?",
    # offers
    rf"(?:would you like|do you want|would you prefer|shall|should|may|can|could)(?: i| we"
    rf"| for)?(?: me)?"
    rf"(?: to)? {_HELP}{_TO_YOU}(?: (?:you|me|this|that|it|on|with|through|in|from|how|the|each"
    rf"|any|more"
    r"|again|further|another|here|step|steps|detail|details|process|solution|calculation|calculations|problem"
    r"|answer|reasoning|concept|concepts|a|an|by|of|to|do|done|is|works?|would|like|different|similar|other"
    r"|way|method|example|examples|questions?|topic|anything|something|else|today|now|out|down|and|or|details?"
    r"|guidance|help|clarification|explanations?|any|other|further|these|executing|doing|computing|performing"
    r"|applying|using|calculating|computations?)){0,14}",
    r"(?:would you like|do you want)(?: to)? (?:try|see|know|learn|hear|practice|do|go|solve"
    r"|continue"
    r"|work|explore|discuss|review)(?: (?:more|another|it|this|that|one|a|an|the|similar"
    r"|different|how|other"
    r"|problem|problems|example|examples|yourself|steps?|solution|works?|about|through|over|again|with|on"
    r"|further|topic|method)){0,8}",
    r"(?:how|what) (?:else )?(?:can|may|could) (?:i|we) (?:help|assist"
    r"|do for)(?: you)?(?: with)?(?: (?:today"
    r"|now|further|else|next))?",
    r"(?:right|ok|okay|correct|yes|no|ready|clear|understood|got it|see|sound good|agreed"
    r"|isn't it|alright"
    r"|shall we|shall i|may i)",
)  # fmt: skip
_COURTESY = re.compile(
    rf"\W*{_OPENING}(?:{'|'.join(_SENTENCES)})(?:[,\s]+(?:please|today|now|too|as well"
    rf"|instead))?\W*",
    re.IGNORECASE,
)
#: A choice between two readings of the task is a question, however politely it is put.
_CHOICE = re.compile(
    r"\bor\b(?! (?:further|more|any|other|another|need|would|want|help|guidance|assistance|details?"
    r"|clarification|information|explanations?|examples?|questions?|anything|something)\b)"
    r"|\b(?:before|after|including|assume|round|count|include|exclude)\b",
    re.I,
)
_CLOSING = re.compile(
    r"\b(?:let me know (?:if|should) (?:you(?:'d|'re)? (?:have|need|want|like|would|are|get|wish"
    r"|require)|this|that"
    r"|anything|it\b)|feel free to|don't hesitate to|if you (?:have|need|want|'d like"
    r"|would like)(?: any| some| more)?(?: other| further| additional| more)?"
    r" (?:questions?|help|assistance|clarification|explanation|calculations|details)"
    r"|(?:i )?hope (?:this|that|it) helps|happy to help|glad to help|(?:you're|you are) welcome"
    r"|(?:good|best of) luck|have a (?:great|nice|good))\b",
    re.IGNORECASE,
)
#: What a closing line must not ask for besides: the thing that is missing.
_ASKS_TOO = re.compile(
    r"\b(?:provide|specify|share|clarify|know (?:the|how|what|which|when|where|who)|tell me"
    r"|the exact"
    r"|missing|actual|correct|specific|i can (?:then|calculate|give|refine|adjust|update|solve))\b",
    re.IGNORECASE,
)
#: A longer sentence is no courtesy.
_LONGEST = 200


@lru_cache(maxsize=16384)
def is_courtesy(sentence: str) -> bool:
    """Whether a sentence that looks like a question or a request asks for nothing."""
    if len(sentence) > _LONGEST:
        return False
    polite = _COURTESY.fullmatch(sentence.strip().replace("*", ""))
    return bool(polite) and not _CHOICE.search(sentence)


@lru_cache(maxsize=16384)
def closes(sentence: str) -> bool:
    """Whether a sentence only ends a reply politely: "Let me know if you have any questions!"."""
    if len(sentence) > _LONGEST:
        return False
    polite = _CLOSING.search(sentence) and not _ASKS_TOO.search(sentence) and "?" not in sentence
    return bool(polite) or ("?" in sentence and is_courtesy(sentence))


#: Closing sentences that are looked at, from the end.
_MOST = 4


@lru_cache(maxsize=8192)
def without_closing(text: str) -> str:
    """A reply without the polite sentences at its end."""
    for _ in range(_MOST):
        text = text.rstrip()
        breaks = [m.end() for m in BREAK.finditer(text)]
        if not breaks or not closes(text[breaks[-1] :]):
            break
        text = text[: breaks[-1]]
    return text.rstrip()
