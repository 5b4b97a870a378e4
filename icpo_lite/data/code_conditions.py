"""A `q*` of a coding task by removal of one condition: the task stays, and says that it has one.

"Filter a list of strings only for ones that contain a given substring" goes on as "… only for ones
that meet a certain condition": which elements count, when the result is true, in which order it
comes, which of several is wanted. With the condition go the examples, which show it, the sentences
that speak of it, and a name of the function that would tell it. *Out of reach*: the tests ask for
the condition and no word of it is left. *Visibly incomplete*: "a certain condition" stands in the
request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from icpo_lite.core.numbers import numbers
from icpo_lite.core.sentences import sentences
from icpo_lite.core.types import Certificate, Problem, Shard
from icpo_lite.core.words import bag, content_words, is_plural
from icpo_lite.data.certificate import GAPS, Removal
from icpo_lite.data.code_arguments import DEFINITION, NO_NAME, is_of_arguments
from icpo_lite.data.code_text import CodeText, signature_line
from icpo_lite.data.sharding import FactShard, Sharding
from icpo_lite.data.text_edits import Cut, Edit, apply

#: Where a condition ends: with its sentence, or before what is otherwise.
_STOP = r"[.;](?:\s|$)|\s*$"
_END = (
    r"(?=,? (?:and|or|else) (?:returns? |returning )?['\"]?(?:false|true|no|none|-?\d)\b"
    rf"|,? otherwise\b|,? (?:false|else)\b|{_STOP})"
)
_TRUTH = r"['\"`]?(?:true|yes|false|no|-?1|0|none)['\"`]?"
#: Pattern of a condition, what stands in its place, and what the request calls it.
_CONDITIONS = (
    (
        re.compile(
            rf"\b(?:returns?|returning|output|print) {_TRUTH},? (?P<gone>(?:if|is|when|iff)"
            rf"(?: and only if)?\b.{{8,200}}?){_END}",
            re.IGNORECASE,
        ),
        "if a certain condition holds",
    ),
    (
        re.compile(
            r"\b(?P<noun>[a-z]{2,20}(?:s|es|ers|ies|ren))(?: in (?:the |a )?[a-z]+)? (?P<gone>"
            rf"(?:that|which|whose|who)\b.{{6,160}}?)(?=,|{_STOP})",
            re.IGNORECASE,
        ),
        "that meet a certain condition",
    ),
    (
        re.compile(
            r"\b(?:sort(?:s|ed|ing)?|order(?:s|ed|ing)?|arranged?)\b.{0,60}? (?P<gone>(?:from"
            r" .{3,40} to .{3,40}?|by [a-z].{3,80}?|according to .{3,90}?|based on .{3,90}?|in"
            rf" (?:ascending|descending|increasing|decreasing)\b.{{0,90}}?)){_END}",
            re.IGNORECASE,
        ),
        "in a certain order",
    ),
    (
        re.compile(rf"\bChecks? (?P<gone>(?:if|whether)\b.{{8,200}}?){_END}"),
        "whether a certain condition holds",
    ),
)
_WHICH = (
    r"largest|smallest|greatest|lowest|highest|maximum|minimum|longest|shortest|closest|median|even"
    r"|odd|primes?|positive|negative|distinct|unique|upper-?case|lower-?case|common|duplicate"
    r"|consecutive|last|first|divisible|alphabetical"
)
#: "Return the largest even number": which of them, in the words that stand before the noun.
_ADJECTIVES = re.compile(
    r"\b(?:returns?|find|count|add|sum|product|number|remove|get) "
    r"(?:(?!given\b|list of|array of|takes\b|input\b|true\b|false\b)[^.;:(]){0,50}?"
    rf"\b(?P<gone>(?:(?:the|an?|only) )*(?:{_WHICH})(?:(?:,| and| or|) (?:{_WHICH}))*)"
    r" (?P<thing>(?!will\b|is\b|are\b|sum\b|number of\b)[a-z]{3,20})\b(?! (?:and|or) \w)",
    re.IGNORECASE,
)
#: What a relative clause behind it tells of the request itself, and of no element.
_WHOLE = bag(
    "functions programs methods tasks inputs arguments parameters lists arrays strings this means"
)
#: No condition of elements, but what is done, or one of two cases.
_NO_CONDITION = re.compile(r"\b(?:if|then|need|needs|represents?|distributed|following)\b", re.I)
#: A sentence that tells what to do: where it would go too, the task goes.
DOES = re.compile(
    r"\b(?:(?:return|write|create|implement|sort|find|count|compute|print|replace|check|determine"
    r"|calculate|convert|filter|remove)s?|task|job|shall)\b",
    re.IGNORECASE,
)
_LEADS = re.compile(
    r"^(?:that|which|whose|who|if|is|when|iff|whether)(?: and only if)?\s+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Found:
    """A condition in a sentence of the request: its words, its place there, what replaces it.

    fact: what tells it, where its own words and the name of its gap do not. term: the word that
    stays and lacks its meaning, where nothing stands in the place of what is gone.
    """

    sentence: str
    start: int
    end: int
    gap: str
    fact: str = ""
    term: str = ""

    @property
    def words(self) -> str:
        return self.sentence[self.start : self.end].strip(" ,.")

    @property
    def left(self) -> str:
        return f"{self.sentence[: self.start]}{self.gap}{self.sentence[self.end :]}"


def only_function(code: CodeText) -> re.Match[str] | None:
    """The definition of the one function that is asked for in prose; None where one part of the
    request cannot go alone."""
    named = list(DEFINITION.finditer(code.opening))
    if len(named) != 1 or not code.prose or (code.example_spans and not code.whole):
        return None
    return named[0]


def condition_removal(problem: Problem, code: CodeText) -> tuple[Sharding, Removal] | None:
    """The request with its condition as a fact, and the removal; None where it has none."""
    named = only_function(code)
    if named is None:
        return None
    told = [s.text for s in sentences(code.prose)]
    for i, sentence in enumerate(told):
        found = None if is_of_arguments(sentence) else _condition(sentence)
        if found is None:
            continue
        header = content_words(code.opening.replace(named[1], ""))
        own = content_words(found.words) - content_words(found.left) - header
        others = [s for j, s in enumerate(told) if j != i]
        gone = [s for s in others if content_words(s) & own and not is_of_arguments(s)]
        gone += [s for s in others if s.endswith(":") and s not in gone]
        kept = [s for s in others if s not in gone]
        if any(DOES.search(s) for s in gone) or any(s.startswith("-") for s in kept):
            continue
        if found.gap.endswith("condition holds") and not any(states_task(s) for s in kept):
            continue  # "return True if a certain condition holds" asks for nothing
        hints = " ".join([*kept, found.left])
        if not own or own & content_words(hints) or _contrasted(found.words, hints):
            continue
        cut = cut_out(problem.question, code, found, gone, named.span(1))
        if cut is not None:
            return removed(problem, code, found, (kept, gone), cut)
    return None


def states_task(sentence: str) -> bool:
    """Whether a sentence tells what to do, and not what comes out in one case alone."""
    does = DOES.search(sentence) or _ORDERS.match(sentence)
    return bool(does) and not _ONE_CASE.search(sentence)


#: Other words that an order begins with.
_ORDERS = re.compile(
    r"\W*(?:please )?(?:(?:circular|left|right) )?(?:insert|join|concatenate|validate|encode|decode"
    r"|encrypt|shift|add|multiply|divide|split|swap|reverse|rotate|merge|flip|double|square|extract"
    r"|select|pick|group|map|transform|round|generate|make|build|get|test|tell|decide|verify|parse"
    r"|apply|evaluate|simplify|separate|rearrange|drop|keep|take|list|show|output|combine)\b",
    re.IGNORECASE,
)


_ONE_CASE = re.compile(
    r"^\W*(?:note:? )?(?:if|when|in case|otherwise|else)\b|^(?:(?:it|the function) )?"
    r"(?:should |must )?returns? (?:.{1,40} (?:if|when|in case|otherwise)\b|\W?(?:true|false|yes"
    r"|no)\b)",
    re.IGNORECASE,
)


#: Where one of two stays, everybody knows the other.
_PAIRS = (
    ("odd", "even"), ("upper", "lower"), ("largest", "smallest"), ("maximum", "minimum"),
    ("positive", "negative"), ("first", "last"), ("longest", "shortest"),
    ("ascending", "descending"), ("increasing", "decreasing"), ("highest", "lowest"),
)  # fmt: skip


def _contrasted(words: str, hints: str) -> bool:
    return any(
        re.search(rf"\b{mine}", words, re.I) and re.search(rf"\b{other}", hints, re.I)
        for pair in _PAIRS
        for mine, other in (pair, pair[::-1])
    )


def _condition(sentence: str) -> Found | None:
    for pattern, gap in _CONDITIONS:
        for match in pattern.finditer(sentence):
            noun, words = match.groupdict().get("noun"), _LEADS.sub("", match["gone"])
            told_of_request = noun is not None and noun.lower() in _WHOLE
            if not told_of_request and not _NO_CONDITION.search(words):
                return Found(sentence, _opened(sentence, match), match.end("gone"), gap)
    if which := _ADJECTIVES.search(sentence):
        gap = "certain" if is_plural(which["thing"].lower()) else "a certain"
        return Found(sentence, *which.span("gone"), gap)
    return None


def _opened(sentence: str, match: re.Match[str]) -> int:
    """Where a condition begins: "in the order from …" is all one."""
    lead = _IN_ORDER.search(sentence, 0, match.start("gone"))
    return lead.start() if lead else match.start("gone")


_IN_ORDER = re.compile(r"\bin (?:the |an )?order $", re.IGNORECASE)


def cut_out(
    text: str,
    code: CodeText,
    found: Found,
    gone: list[str],
    name: tuple[int, int],
    *,
    tells: bool = True,
) -> Cut | None:
    """The edits that take the condition out of the request as it is written.

    name: where the function's name stands; tells: whether it would tell the condition.
    """
    edits = [Edit(*name, NO_NAME)] if tells else []
    edits += [Edit(*span) for span in code.example_spans]
    whole = _place(text, found.sentence, len(code.opening))
    if whole is None:
        return None
    inner = _place(text, found.words, *whole) if found.gap else whole
    if inner is None:
        return None
    edits.append(Edit(*inner, found.gap))
    for sentence in gone:
        if (place := _place(text, sentence, len(code.opening))) is None:
            return None
        edits.append(Edit(*place))
    written = text[name[0] : name[1]] if tells else ""
    edits += [
        Edit(m.start(), m.end(), NO_NAME)
        for m in re.finditer(
            rf"\b{re.escape(written)}\b{'' if '_' in written else '(?=[(`])'}", text
        )
        if written and not any(e.start <= m.start() < e.end for e in edits)
    ]
    ordered = sorted(edits, key=lambda e: e.start)
    if any(a.end > b.start for a, b in pairwise(ordered)):
        return None
    return Cut("term" if found.term else "gap", tuple(ordered), found.term or found.gap)


def _place(text: str, words: str, after: int, end: int | None = None) -> tuple[int, int] | None:
    """Where words stand in a text that wraps them over lines, if once in the part from `after`."""
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    places = [m.span() for m in re.compile(pattern).finditer(text, after, end or len(text))]
    return places[0] if len(places) == 1 else None


def _called(found: Found) -> str:
    """What a fact calls its condition: "The certain numbers" are "the even" ones."""
    if not found.gap.endswith("certain"):
        return "The certain order" if found.gap.endswith("order") else "The certain condition"
    thing = re.match(r" ([A-Za-z]+)", found.sentence[found.end :])
    return f"The certain {thing[1] if thing else 'things'}"


def removed(
    problem: Problem,
    code: CodeText,
    found: Found,
    sides: tuple[list[str], list[str]],
    cut: Cut,
) -> tuple[Sharding, Removal]:
    kept, gone = sides
    signature = signature_line(code.opening)
    header = f"Write the Python function `{signature}`. {found.left}"
    told = found.fact or f"{_called(found)}: {_LEADS.sub('', found.words)}."
    examples = [f"For example:\n{code.examples}"] if code.examples else []
    facts = tuple(
        FactShard(Shard(i, text), (), (cut,) if i == 1 else ())
        for i, text in enumerate([told, *gone, *examples, *kept], start=1)
    )
    evidence = f"the tests ask for {found.words!r} and nothing left tells it"
    removal = Removal(
        facts[0],
        cut,
        apply(problem.question, [cut]),
        Certificate("numbers", evidence, GAPS[cut.kind].format(slot=cut.slot)),
        additive=False,
        along=tuple(f.shard for f in facts[1 : 1 + len(gone) + len(examples)]),
    )
    shards = (Shard(0, header, is_question=True), *(f.shard for f in facts))
    return Sharding(shards, facts, numbers(problem.question), header), removal
