"""A `q*` of a coding task by removal of what it asks for: what shall the function do?

Where no single value of a request can go (`data/value_shards.py`), the sentences that tell what the
function returns can, with the examples, which show it: what is left is a header, with a name that
says nothing, and what the request tells of the arguments alone ("You are given a positive integer
n.") or of a case in which there is nothing to do ("Return None if there is no such element.").
*Out of reach*: the tests ask for what only these sentences told. *Visibly incomplete*: nothing says
what the function does. Code that stands before the function and defines more could tell it; then
there is no such removal.
"""

from __future__ import annotations

import re

from icpo_lite.core.numbers import numbers
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Certificate, Problem, Shard
from icpo_lite.core.words import content_words
from icpo_lite.data.certificate import GAPS, Removal
from icpo_lite.data.code_text import CodeText, signature_line, single_examples
from icpo_lite.data.sharding import FactShard, Sharding
from icpo_lite.data.text_edits import Cut, Edit, apply

#: The name that stands for one that would tell what the function does.
NO_NAME = "solve"
#: A description of fewer words tells too little to be missed.
_FEWEST_WORDS = 3
DEFINITION = re.compile(r"^(?:async )?(?:def|class)\s+(\w+)", re.MULTILINE)
_NAMING = re.compile(r"\s*Name the function `(?P<name>\w+)(?P<rest>[^`]*)`\.\s*\Z")


def description_removal(problem: Problem, code: CodeText) -> tuple[Sharding, Removal] | None:
    """The request as its header and the facts that describe it, and the removal of all of these.

    None where there is no header, or code beside it.
    """
    found = _of_docstring(problem.question, code) if code.opening else _of_prose(problem.question)
    if found is None:
        return None
    header, told, cut = found
    described = [s.text for s in sentences(told)]
    kept = [text for text in described if code.opening and is_of_arguments(text)]
    asked = [text for text in described if text not in kept]
    if len(content_words(" ".join(asked))) < _FEWEST_WORDS:
        kept, asked = [], described
    if len(content_words(told)) < _FEWEST_WORDS:
        return None
    if kept:
        cut = _around(cut, kept)
    shown = [f"For example:\n{one}" for one in single_examples(code.examples, code.name)]
    facts = tuple(
        FactShard(Shard(i, text), (), (cut,) if text == asked[0] else ())
        for i, text in enumerate([*described, *(shown if code.opening else [])], start=1)
    )
    shards = (Shard(0, header, is_question=True), *(f.shard for f in facts))
    evidence = f"what the tests ask for stands in {asked[0]!r} and nothing left tells it"
    gone = [f for f in facts if f.shard.text not in kept]
    removal = Removal(
        gone[0],
        cut,
        apply(problem.question, [cut]),
        Certificate("numbers", evidence, GAPS["description"].format(slot=cut.slot)),
        additive=False,
        along=tuple(f.shard for f in gone[1:]),
    )
    return Sharding(shards, facts, numbers(problem.question), header), removal


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


def _around(cut: Cut, kept: list[str]) -> Cut:
    """The cut that leaves the sentences about the arguments in a docstring of their own."""
    *first, last = cut.edits
    told = "\n    ".join(kept)
    return Cut(
        cut.kind, (*first, Edit(last.start, last.end, f'\n    """{told}\n    """')), cut.slot
    )


def _of_docstring(text: str, code: CodeText) -> tuple[str, str, Cut] | None:
    """(header as a request, description, the cut that leaves a header alone)."""
    definitions = list(DEFINITION.finditer(code.opening))
    if len(definitions) != 1 or not code.prose:
        return None
    named = definitions[0]
    end = len(code.opening)
    edits = [Edit(named.start(1), named.end(1), NO_NAME), Edit(end, len(text))]
    header = f"Write the Python function `{signature_line(code.opening)}`."
    if before := code.opening[: named.start()].strip():
        header = f"{header} This stands before it: `{before}`"
    return header, code.prose, Cut("description", tuple(edits), NO_NAME)


def _of_prose(text: str) -> tuple[str, str, Cut] | None:
    naming = _NAMING.search(text)
    if naming is None:
        return None
    edits = (
        Edit(0, naming.start(), "Write a Python function."),
        Edit(naming.start("name"), naming.end("name"), NO_NAME),
    )
    header = f"Write the Python function `{naming['name']}{naming['rest']}`."
    return header, text[: naming.start()].strip(), Cut("description", edits, NO_NAME)
