"""A `q*` of a coding task by removal of what it asks for: what shall the function do?

Where neither a value of a request can go (`data/value_shards.py`) nor one requirement
(`data/code_conditions.py`, `data/code_requirements.py`), the sentences that tell what the
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
from icpo_lite.data.code_arguments import DEFINITION, NO_NAME, is_of_arguments
from icpo_lite.data.code_text import CodeText, signature_line, single_examples
from icpo_lite.data.sharding import FactShard, Sharding
from icpo_lite.data.text_edits import Cut, Edit, apply

#: A description of fewer words tells too little to be missed.
_FEWEST_WORDS = 3
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
