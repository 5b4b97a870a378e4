"""What a reply thinks and what it says: the one place where the two are told apart.

Reasoning models put their thought before the reply and mark it in many ways: `<think>…</think>`
and its kin, a lone `</think>` (the template opened it), `[THINK]…[/THINK]`, the analysis channel of
harmony, begin and end marks in special tokens, or a block headed "Reasoning:". The user reads what
is left, so that is what is typed, graded, searched for guesses, and kept in a chat's history.

The marks were gathered by hand. tests/claims/tables.json has what each is worth alone: few of 164
rows hold a thought, and there `_TAG` costs 1.2 points.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Parts:
    """A reply taken apart. unfinished: the text ends inside its thought."""

    thought: str
    said: str
    unfinished: bool = False


#: Words that a mark of thought is made of, alone or with a prefix or suffix ("seed:think",
#: "begin_of_thought", "END_THINKING").
_MARKS = frozenset(
    ("think", "thinking", "thought", "thoughts", "reasoning", "scratchpad", "reflection")
)
_SHUTS = frozenset(("end", "stop", "close"))
#: A mark in quotes or backticks is spoken about, not used.
_TAG = re.compile(
    r"(?<![`'\"])(?:[<◁]\|?(?P<shut>/?)(?P<name>[A-Za-z_:]{5,30})(?: [^<>\n]{0,60})?\|?[>▷]"
    r"|\[(?P<shut_2>/?)(?P<name_2>[A-Z_]{5,20})\])(?![`'\"])"
)
#: Gemma's marks: <|channel>thought … <channel|>, and <unused94>thought … <unused95>.
_GEMMA = re.compile(r"<\|channel>\s?thought|<unused94>\s?thought|<channel\|>|<unused95>")
#: Marks around the reply itself, as of open reasoning models.
_SOLUTION = re.compile(
    r"</?(?:answer|response|solution)>|<\|/?(?:begin_of_|end_of_|start_|end_)"
    r"(?:solution|response|answer)\|>",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def parted(text: str) -> Parts:
    """Thought and reply of a text; a text without any mark of thought is all reply."""
    if "<|channel|>" in text:
        return _channels(text)
    if text.startswith("analysis") and (bare := _bare_channels(text)):
        return bare
    parts = _tagged(text)
    return parts if parts.unfinished else _labelled(parts)


def said(text: str) -> str:
    """What is left of a text once its thought is taken off."""
    return parted(text).said


def marks_thought(text: str) -> bool:
    """Whether a text is one mark of thought and nothing else, such as a control token's."""
    found = _tags(text)
    return len(found) == 1 and found[0][:2] == (0, len(text))


def opened_at_end(text: str) -> str:
    """The mark that a text opens a thought with as its last word, "" where it opens none."""
    text = text.rstrip()
    start, end, shuts = (_tags(text) or [(0, 0, True)])[-1]
    return "" if shuts or end < len(text) else text[start:]


def shutting(mark: str) -> str:
    """The mark that ends what `mark` begins: </think>, [/THINK], <|end_of_thought|>."""
    for opens, shuts in (("begin", "end"), ("start", "end"), ("START", "END"), ("BEGIN", "END")):
        if opens in mark:
            return mark.replace(opens, shuts, 1)
    bar = 2 if mark[1] == "|" else 1
    return f"{mark[:bar]}/{mark[bar:]}"


def _tagged(text: str) -> Parts:
    """A shut mark without an open one ends a thought that began with the text."""
    thought: list[str] = []
    kept: list[str] = []
    at, inside = 0, False
    for start, end, shuts in _tags(text):
        (thought if inside else kept).append(text[at:start])
        at = end
        if shuts and not inside:
            thought.extend(kept)
            kept.clear()
        inside = not shuts
    if not at:
        return Parts("", text)
    (thought if inside else kept).append(text[at:])
    reply = _SOLUTION.sub("", " ".join(kept)).strip()
    return Parts(" ".join(thought).strip(), reply, inside)


def _tags(text: str) -> list[tuple[int, int, bool]]:
    """Start, end and kind of every mark of thought, in order; True is one that shuts."""
    found = []
    for match in _TAG.finditer(text):
        words = frozenset(re.split("[_:]", (match["name"] or match["name_2"]).lower()))
        if words & _MARKS:
            shuts = bool(match["shut"] or match["shut_2"] or words & _SHUTS)
            found.append((match.start(), match.end(), shuts))
    if "channel" in text or "<unused9" in text:
        for match in _GEMMA.finditer(text):
            shuts = match[0] in ("<channel|>", "<unused95>")
            found.append((match.start(), match.end(), shuts))
        found.sort()
    return found


# ---------------------------------------------------------------------------------------- channels

_CHANNEL = re.compile(r"\s*(\w{1,20})")
_MESSAGE, _ENDS = "<|message|>", re.compile(r"<\|(?:end|return|call|start)\|>")
#: Whom a message is for, in its header or before the mark of its channel: a call of a function.
_TO = re.compile(r"\bto=functions\.[\w.-]{1,80}")


def _channels(text: str) -> Parts:
    """Harmony: what stands in the channel `analysis` is thought, all other channels are said.

    A call keeps the function that it is for: "to=functions.name {…}".
    """
    opening, *pieces = text.split("<|channel|>")
    thought: list[str] = []
    kept = [_TO.sub("", opening.replace("<|start|>assistant", ""))]
    name, before = "", opening
    for piece in pieces:
        match = _CHANNEL.match(piece)
        name = match[1] if match else ""
        header, message, body = piece.partition(_MESSAGE)
        body = _ENDS.split(body if message else header[match.end() if match else 0 :], maxsplit=1)[
            0
        ]
        to = _TO.search(header if message else "") or _TO.search(before.rpartition("<|start|>")[2])
        before = piece
        call = f"{to[0]} " if to else ""
        (kept if call or not name.startswith("analysis") else thought).append(call + body)
    shut = bool(_ENDS.search(pieces[-1]))
    unfinished = name.startswith("analysis") and not shut
    return Parts(_joined(thought), _joined(kept), unfinished)


_BARE_FINAL = re.compile(
    r"(?:assistant\s?)+(?:final(?=\W|[A-Z\d]|$)|commentary\s?(?=to=functions\.))"
    r"|(?:assistant\s?)+(?=to=functions\.)"
)


def _bare_channels(text: str) -> Parts | None:
    """Harmony once special tokens are left out: "analysisThe user … assistantfinalThe answer …"."""
    found = list(_BARE_FINAL.finditer(text))
    if found:
        calls = [match for match in found if text.startswith("to=", match.end())]
        said = calls[0] if calls else found[-1]
        return Parts(text[8 : said.start()].strip(), text[said.end() :].strip())
    if len(text) > 8 and (text[8].isupper() or text[8] == "\n"):
        return Parts(text[8:].strip(), "", unfinished=True)
    return None


def _joined(pieces: list[str]) -> str:
    return "\n".join(piece.strip() for piece in pieces if piece.strip())


# ------------------------------------------------------------------------------------------ labels

_NAMES = (
    r"(?:my |internal )?(?:reasoning|thoughts?|thinking|chain[- ]of[- ]thought|scratch ?pad"
    r"|thought process|reasoning process)"
)
_LABEL = re.compile(rf"\s{{0,9}}[#*_>\s]{{0,6}}{_NAMES}[*_\s]{{0,4}}:[*_]{{0,3}}", re.IGNORECASE)
#: What follows a block of reasoning: a heading of the reply, or the statement of its answer.
_REPLY = re.compile(
    r"^[#*_>\s]{0,6}(?:final |my |short )?(?:answer|reply|response|output|conclusion|action"
    r"|question"
    r"|result)(?: to (?:the )?user)?[*_\s]{0,4}:"
    r"|\bthe (?:final )?answer is\b|\\boxed\b|^####",
    re.IGNORECASE | re.MULTILINE,
)
_PARAGRAPH = re.compile(r"\n\s*\n")
_LINE = re.compile("\n")
_TELLS = re.compile(r"[\d?？]")


def _labelled(parts: Parts) -> Parts:
    """A text that opens with "Reasoning:": the reply is what its heading leads in, or its last
    paragraph or line. A block with nothing behind it is a thought that never came to a reply."""
    text = parts.said
    label = _LABEL.match(text)
    if label is None:
        return parts
    body = text[label.end() :].strip()
    if reply := _REPLY.search(body):
        return _cut(parts, body, reply.start(), unfinished=not reply[0].endswith((":", "####")))
    for apart in (_PARAGRAPH, _LINE):
        if breaks := list(apart.finditer(body)):
            at = breaks[-1].end()
            return _cut(parts, body, at if _TELLS.search(body[at:]) else 0, unfinished=True)
    return Parts(f"{parts.thought} {body}".strip(), "", unfinished=True)


def _cut(parts: Parts, body: str, at: int, *, unfinished: bool = False) -> Parts:
    thought = f"{parts.thought} {body[:at]}".strip()
    return Parts(thought, body[at:].strip(), unfinished)
