"""The request of a code task in its parts: opening code, sentences, examples.

A request is prose (MBPP) or code that ends in a docstring (HumanEval); of the latter the docstring
is the prose. Examples are `>>>` lines, calls of the function with their results, and what stands
under "Examples:".
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

_HEADING = re.compile(
    r"[ \t]*(?:#+ )?(?:\d+[.)] )?(?:some |here are |for )?(?:examples?|e\.g\.?"
    r"|for instance|test cases?|sample)\b[^\n]{0,40}$",
    re.IGNORECASE,
)
_QUOTES = re.compile(r"[ \t]*(?:[rRuU]?(?:\"\"\"|'''))")


@dataclass(frozen=True, slots=True)
class CodeText:
    """opening: code before the prose ("" for a prose request). name: of the function, where code
    opens the request. paragraphs: prose, unwrapped. examples: as they stand, `example_spans` in
    the request. whole: whether the spans are all that follows the prose.
    """

    opening: str
    name: str
    prose: str
    examples: str
    example_spans: tuple[tuple[int, int], ...]
    whole: bool


def read_code_text(text: str) -> CodeText:
    """The parts of a request; one that is no code is prose without examples of its own."""
    start, end, opening, name = _docstring(text)
    lines = _lines(text, start, end)
    prose: list[str] = []
    spans: list[tuple[int, int]] = []
    inside = False
    explains = False
    whole = True
    for at, stop, line in lines:
        bare = line.strip()
        example = _is_example(bare, name) or bool(_HEADING.match(line))
        explains = bool(bare) and not example and (explains or bool(_EXPLAINS.match(bare)))
        if example or (inside and bare and (explains or not _is_prose(bare))):
            spans.append((at, stop))
            inside = True
        else:
            if inside and bare:
                whole = False
            inside = inside and not bare
            prose.append(bare)
    examples = "\n".join(text[a:b].strip() for a, b in spans)
    return CodeText(opening, name, _unwrapped(prose), examples, _stretches(text, spans), whole)


#: A line under an example that says why it comes out so, and those that go on with it.
_EXPLAINS = re.compile(r"explanation\b", re.IGNORECASE)
_INPUT = re.compile(r"(?:>>>|input\b|assert\b)", re.IGNORECASE)
#: Examples that are facts of their own; what is left over goes with the last.
MOST_EXAMPLES = 4


def single_examples(examples: str, name: str) -> list[str]:
    """The examples of a request one by one, each with its result, without the line over them."""
    lines = examples.split("\n")
    while len(lines) > 1 and _HEADING.match(lines[0]) and not _is_call(lines[0], name):
        lines = lines[1:]
    by_prompt = any(line.startswith(">>>") for line in lines)
    found: list[list[str]] = []
    for line in lines:
        opens = line.startswith(">>>") if by_prompt else _is_call(line, name) or _INPUT.match(line)
        if opens or not found:
            found.append([])
        found[-1].append(line)
    told = [[line for line in one if line] for one in found]
    kept = ["\n".join(one) for one in told if one]
    return [*kept[: MOST_EXAMPLES - 1], "\n".join(kept[MOST_EXAMPLES - 1 :])][: len(kept)]


def _is_call(line: str, name: str) -> bool:
    return bool(name) and bool(re.match(rf"(?:\W|\d)*(?:assert )?{re.escape(name)}\s*\(", line))


def _stretches(text: str, lines: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Lines as stretches to cut: each from the end of the line before to its own last end."""
    out: list[tuple[int, int]] = []
    for start, stop in lines:
        if out and not text[out[-1][1] : start].strip():
            start = out.pop()[0]
        elif text[start - 1 : start] == "\n":
            start -= 1
        out.append((start, stop - (text[stop - 1] == "\n")))
    return tuple(out)


def _docstring(text: str) -> tuple[int, int, str, str]:
    """(start, end of the prose, code before it, name of the function)."""
    function = None
    for match in re.finditer(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", text, re.MULTILINE):
        function = match
    if function is None:
        return 0, len(text), "", ""
    quotes = re.compile(r"(?P<q>\"\"\"|''')").search(text, function.end())
    if quotes is None:
        return len(text), len(text), text, function[1]
    closing = text.find(quotes["q"], quotes.end())
    end = closing if closing >= 0 else len(text)
    line_start = text.rfind("\n", 0, quotes.start()) + 1
    return quotes.end(), end, text[:line_start].rstrip(), function[1]


def _lines(text: str, start: int, end: int) -> list[tuple[int, int, str]]:
    found, at = [], start
    while at < end:
        stop = text.find("\n", at, end)
        stop = end if stop < 0 else stop + 1
        found.append((at, stop, text[at:stop].rstrip("\n")))
        at = stop
    return found


def _is_example(line: str, name: str) -> bool:
    if line.startswith((">>>", "...")):
        return True
    return _is_call(line, name) or bool(
        re.search(r"(?:==>?|=>|->|➞|→|\boutput\b\W*:)", line) and name
    )


def _is_prose(line: str) -> bool:
    """Whether a line under examples is words again, and not a value or an explanation of one."""
    return len(re.findall(r"\b[A-Za-z]{2,}\b", line)) >= 5 and not re.search(r"[=\[{>]", line)


#: Words that a line opens a sentence with, where the line before only lacks its full stop.
_OPENS = re.compile(
    r"(?:Ignore|Return|If|Note|For|You|Your|The|Input|Output|Assume|It|This|Each|Given|When|Please"
    r"|Write|Implement|Do|Don't|Only|All|Otherwise|Every|Empty|Create|Find|Check)\b(?!['’_(])"
)
_GOES_ON = re.compile(r"(?:[,;:(]|\b(?:and|or|of|the|a|an|to|in|is|are|that|than|with|for|by))$")


def _unwrapped(lines: list[str]) -> str:
    """Prose with its wrapped lines joined; an empty line or a bullet begins a new paragraph."""
    out: list[str] = []
    fresh = True
    for line in lines:
        if not line:
            fresh = True
            continue
        opens = bool(out) and not _GOES_ON.search(out[-1]) and bool(_OPENS.match(line))
        if fresh or opens or re.match(r"(?:[-*•]|\d+[.)])\s", line):
            out.append(line)
        else:
            out[-1] = f"{out[-1]} {line}"
        fresh = False
    return "\n".join(out)


def signature_line(opening: str) -> str:
    """ "f(x: int) -> int" of the last function in the code before the prose."""
    found = list(re.finditer(r"^[ \t]*(?:async[ \t]+)?def[ \t]+", opening, re.MULTILINE))
    if not found:
        return ""
    source = opening[found[-1].end() :].strip().rstrip(":")
    try:
        node = ast.parse(f"def {source}: pass").body[0]
    except (SyntaxError, ValueError):
        return source.partition("\n")[0]
    return ast.unparse(node).removeprefix("def ").partition(":\n")[0]
