"""The program in a reply to a coding task, whichever way it is written.

A whole solution or the body alone (HumanEval's prompts end where the body begins), in fenced
blocks, between `[PYTHON]` tags or bare, with prose before, between and behind. Nothing is run
here: what is Python is told by parsing it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice

#: A longer reply is cut: no solution is so long.
_LONGEST, _MOST_LINES = 16_000, 500
#: Nor are more blocks read, and more pieces of prose, than this.
_MOST_BLOCKS, _MOST_PIECES = 50, 200
#: Nor are more places tried where code may begin in prose.
_MOST_STARTS = 3

_FENCE = re.compile(
    r"^[ \t>]*(?P<f>`{3,}+|~{3,}+)(?P<info>[^\n`]*+)\n"
    r"(?P<body>.*?)(?:^[ \t>]*(?P=f)[ \t]*$|(?P=f)|\Z)",
    re.DOTALL | re.MULTILINE,
)
_TAGS = re.compile(
    r"\[PYTHON\](.*?)(?:\[/PYTHON\]|\Z)|<code>(.*?)(?:</code>|\Z)", re.DOTALL | re.IGNORECASE
)
_CODE = re.compile(r"^[ \t]*(?:async def|def|class|import|from|@)\b", re.MULTILINE)
#: Languages of a fence that hold no solution.
_NO_CODE = frozenset({"text", "txt", "output", "console", "bash", "sh", "shell", "plaintext"})


def extract_code(reply: str, *, entry_point: str = "", prompt: str = "") -> str | None:
    """The program of a reply; None where it holds no code.

    entry_point: the function under test, where it is known: the code that defines it counts, not
    an example of its use. prompt: code that the task opens with and the reply may go on from (an
    import, a signature, a docstring); where the reply does not repeat it, it stands before it.
    """
    reply = _said(reply)
    blocks = list(islice(_blocks(reply), _MOST_BLOCKS))
    if _opened(prompt) is not None and prompt.strip():
        found = _continued(blocks or [reply], blocks, reply, entry_point, prompt)
        if found is not None:
            return found
    if blocks:
        return _chosen(blocks, entry_point) or None
    return _bare(reply)


def _said(reply: str) -> str:
    """The reply behind its hidden thought, with plain line ends."""
    said = reply.rpartition("</think>")[2].partition("<think>")[0]
    lines = said[:_LONGEST].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(lines[:_MOST_LINES])


def _blocks(reply: str) -> Iterator[str]:
    """Fenced and tagged code, in order, each without the indentation of the list it stands in."""
    for match in _FENCE.finditer(reply):
        if match["info"].strip().lower() not in _NO_CODE and match["body"].strip():
            body = match["body"].strip("\n")
            yield textwrap.dedent(body) if match[0][:1] in " \t>" else body
    if "```" in reply or "~~~" in reply:
        return
    for match in _TAGS.finditer(reply):
        if (body := match[1] or match[2] or "").strip():
            yield body.strip("\n")


def _chosen(blocks: Sequence[str], entry_point: str) -> str:
    """The block that solves the task: the last that defines the function, else the last.

    Blocks before it that hold definitions or imports that it may use stand before it.
    """
    defining = [i for i, block in enumerate(blocks) if _defines(block, entry_point)]
    if not defining:
        return blocks[-1]
    last = defining[-1]
    helpers = [b for b in blocks[:last] if not _defines(b, entry_point) and _only_defines(b)]
    return "\n\n".join([*helpers, blocks[last]])


def _defines(block: str, name: str) -> bool:
    pattern = re.escape(name) if name else r"\w+"
    defined = (
        rf"^[ \t]*(?:(?:async[ \t]+)?(?:def|class)[ \t]+{pattern}\b|{pattern}[ \t]*=[ \t]*lambda\b)"
    )
    return bool(re.search(defined, block, re.MULTILINE))


def _only_defines(block: str) -> bool:
    """Whether a block only imports, defines and assigns, so that it can stand before another."""
    tree = _parsed(block)
    return tree is not None and bool(tree.body) and all(map(_is_definition, tree.body))


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
_COMPOUND = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.AugAssign)


def _is_definition(node: ast.stmt) -> bool:
    return isinstance(node, _DEFINITIONS)


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


# ------------------------------------------------------------------------- code without fences


def _bare(reply: str) -> str | None:
    """Code in prose without fences: from its first line on, as far as it parses."""
    starts = [m.start() for m in islice(_CODE.finditer(reply), _MOST_STARTS)]
    if not starts:
        return None
    for start in starts:
        if _parsed(textwrap.dedent(reply[start:])) is not None:
            return textwrap.dedent(reply[start:])
    pieces = islice(_paragraphs(reply[starts[0] :]), _MOST_PIECES)
    kept = [piece for piece in pieces if _is_code(piece)]
    return "\n".join(kept) or reply[starts[0] :]


def _paragraphs(text: str) -> Iterator[str]:
    """The text in pieces that begin with a line at the margin."""
    piece: list[str] = []
    for line in text.splitlines():
        goes_on = not line.strip() or line[0] in " \t)]}" or _goes_on(piece, line)
        if piece and not goes_on:
            yield "\n".join(piece)
            piece = []
        piece.append(line)
    if piece:
        yield "\n".join(piece)


_BRANCH = re.compile(r"(?:elif|else|except|finally)\b")


def _goes_on(piece: Sequence[str], line: str) -> bool:
    """Whether a line at the margin belongs to the statement before it."""
    decorated = bool(piece) and piece[-1].startswith("@")
    return decorated or bool(_BRANCH.match(line))


def _is_code(piece: str) -> bool:
    """Whether a piece is statements of a program: a word of prose parses as a name."""
    tree = _parsed(piece)
    if tree is None or not tree.body:
        return False
    return all(_is_definition(node) or isinstance(node, _COMPOUND) for node in tree.body)


# ------------------------------------------------------------------------------ HumanEval's bodies


def _continued(
    candidates: Sequence[str], blocks: Sequence[str], reply: str, entry_point: str, prompt: str
) -> str | None:
    """The prompt's opening and a reply to it, where the two together define the function.

    A reply that defines the function itself takes from the prompt what stands before the
    function (imports, helpers); one that does not is its body.
    """
    if any(_defines(c, entry_point) for c in candidates):
        solution = _chosen(blocks, entry_point) if blocks else _bare(reply)
        return f"{_preamble(prompt)}\n\n{solution}" if solution else None
    for body in reversed(candidates):
        for program in _with_body(prompt, body):
            if _completes(program, prompt):
                return program
    return None


def _preamble(prompt: str) -> str:
    """What the prompt holds before the function or class that is to be written."""
    opened = _opened(prompt)
    if opened is None or not opened.body:
        return ""
    last = opened.body[-1]
    first = min([last.lineno, *(d.lineno for d in getattr(last, "decorator_list", ()))])
    return "\n".join(prompt.splitlines()[: first - 1]).rstrip()


def _opened(prompt: str) -> ast.Module | None:
    """The prompt as a program whose last function does nothing yet; None where it is no code."""
    return _parsed(f"{prompt.rstrip()}\n{_indent(prompt)}pass\n")


def _indent(prompt: str) -> str:
    """The indentation of the body that the prompt's last line opens or stands in."""
    last = prompt.rstrip().rpartition("\n")[2]
    margin = last[: len(last) - len(last.lstrip())]
    return f"{margin}    " if last.endswith(":") else margin or "    "


def _with_body(prompt: str, body: str) -> Iterator[str]:
    """The prompt with a body behind it, indented as it may have been meant."""
    lines = body.strip("\n").splitlines()
    if not lines:
        return
    yield from _placed(prompt, lines)
    said = _indented_part(lines)
    if said != lines:
        yield from _placed(prompt, said)


def _placed(prompt: str, lines: Sequence[str]) -> Iterator[str]:
    """A body as it stands where it is indented, else indented.

    Decoders strip a reply: its first line may have lost the indentation that the rest still has.
    """
    opening, indent = prompt.rstrip() + "\n", _indent(prompt)
    if lines[0].startswith((" ", "\t")):
        yield opening + "\n".join(lines) + "\n"
        return
    if any(line.startswith(indent) for line in lines[1:]):
        yield "\n".join([f"{opening}{indent}{lines[0]}", *lines[1:]]) + "\n"
    yield opening + textwrap.indent("\n".join(lines), indent) + "\n"


def _indented_part(lines: Sequence[str]) -> list[str]:
    """The lines without prose that stands at the margin, before and behind an indented body."""
    indented = [i for i, line in enumerate(lines) if line.startswith((" ", "\t"))]
    if not indented:
        return list(lines)
    return list(lines[indented[0] : indented[-1] + 1])


def _completes(program: str, prompt: str) -> bool:
    """Whether a program parses and does something where the prompt's last function ends."""
    tree, opened = _parsed(program), _opened(prompt)
    if tree is None or opened is None or not opened.body or len(tree.body) < len(opened.body):
        return False
    at = len(opened.body)
    if not all(map(_is_definition, tree.body[at:])):
        return False
    function, said = tree.body[at - 1], opened.body[-1]
    while isinstance(function, ast.ClassDef) and isinstance(said, ast.ClassDef):
        function, said = function.body[-1], said.body[-1]
    if not isinstance(function, _FUNCTIONS) or not isinstance(said, _FUNCTIONS):
        return False
    return any(map(_acts, function.body[len(said.body) - 1 :]))


def _acts(node: ast.stmt) -> bool:
    """Whether a statement does anything: a word of prose parses as a name."""
    return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Name | ast.Constant))
