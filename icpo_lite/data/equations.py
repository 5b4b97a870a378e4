"""A reference solution as a chain of equations: which numbers of the problem does it need?

A reference solution is read as a chain of equations, from GSM8K's calculator marks
(`<<16-3-4=9>>`, level `marks`) or else from the equations in its text (level `numbers`). Each
operand is an earlier result, a number of the problem, or a constant. The problem's number is
needed when the answer moves as it moves: the chain is recomputed with the number nudged, so that
a number that cancels out, or that only ever appears in a side remark, is not called needed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from icpo_lite.text import NumberMention, numbers
from icpo_lite.types import CertificateLevel

Operand = tuple[
    str, int | Fraction
]  # ("result", index), ("input", mention index), ("const", value)

_MARK = re.compile(r"<<([^<>=]+)=\s*([^<>=]+)>>")
_EQUALS = re.compile(r"=\s*[$£€]?\s*(-?\d[\d,]*(?:\.\d+)?%?|-?\.\d+)")
_LEFT_SIDE = re.compile(r"[-\d.,$£€()+*/x×÷–% ]+$")
_TOKEN = re.compile(r"\d+\.?\d*|\.\d+|[-+*/()]")


@dataclass(frozen=True, slots=True)
class Need:
    """That a number is needed, and how it enters.

    additive: it is only ever added or subtracted on its way to the answer.
    equation: the equation in which it enters, as evidence.
    """

    level: CertificateLevel
    additive: bool
    equation: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One equation: an arithmetic tree whose leaves are operands, as written and its value."""

    level: CertificateLevel
    source: str
    tree: ast.expr
    operands: Mapping[int, Operand]
    value: Fraction


@dataclass(frozen=True, slots=True)
class SolutionGraph:
    """The equations of a solution in order, with their operands resolved."""

    steps: tuple[_Step, ...]
    inputs: tuple[Fraction, ...]
    answer: Fraction

    def need(self, mention: int) -> Need | None:
        """How the answer depends on the problem's number at this index; None where it does not."""
        users = [s for s in self.steps if any(o == ("input", mention) for o in s.operands.values())]
        if not users:
            return None
        value = self.inputs[mention]
        base = self._final({})
        low, high = self._final({mention: value + 1}), self._final({mention: value + 2})
        if base != self.answer or low is None or high is None or low == base:
            return None
        additive = abs(low - base) == 1 and high - low == low - base
        evidence = next((s for s in users if s.level == "marks"), users[0])
        return Need(evidence.level, additive, evidence.source)

    def _final(self, changed: Mapping[int, Fraction]) -> Fraction | None:
        """The answer with some inputs changed; None where it is undefined or not in the chain."""
        results: list[Fraction | None] = []
        for step in self.steps:
            try:
                results.append(self._evaluate(step.tree, step, results, changed))
            except (ZeroDivisionError, _UnknownError):
                results.append(None)
        final = max((i for i, s in enumerate(self.steps) if s.value == self.answer), default=None)
        return None if final is None else results[final]

    def _evaluate(
        self,
        node: ast.expr,
        step: _Step,
        results: Sequence[Fraction | None],
        changed: Mapping[int, Fraction],
    ) -> Fraction:
        if isinstance(node, ast.Constant):
            kind, which = step.operands[node.col_offset]
            if kind == "const":
                return Fraction(which)
            if kind == "input":
                at = int(which)
                scale = _scale_of(step, node, self.inputs[at])
                return changed.get(at, self.inputs[at]) * scale
            value = results[int(which)]
            if value is None:
                raise _UnknownError
            return value
        if isinstance(node, ast.UnaryOp):
            return -self._evaluate(node.operand, step, results, changed)
        assert isinstance(node, ast.BinOp)
        left = self._evaluate(node.left, step, results, changed)
        right = self._evaluate(node.right, step, results, changed)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        return left * right if isinstance(node.op, ast.Mult) else left / right


class _UnknownError(Exception):
    """An operand whose own equation could not be computed."""


def _scale_of(step: _Step, node: ast.Constant, value: Fraction) -> Fraction:
    """100 where "20%" (1/5) was written as 20 in the equation, else 1."""
    return _literal(node) / value if value else Fraction(1)


def _literal(node: ast.Constant) -> Fraction:
    return Fraction(str(node.value))


def solution_graph(
    solution: str, answer: object, mentions: Sequence[NumberMention]
) -> SolutionGraph | None:
    """The chain of equations that leads to the answer, or None where there is none to follow."""
    gold = to_number(answer)
    if gold is None:
        return None
    steps = _steps(_equations(solution), mentions)
    if not any(s.value == gold for s in steps):
        return None
    return SolutionGraph(tuple(steps), tuple(m.value for m in mentions), gold)


def _equations(solution: str) -> list[tuple[str, str, CertificateLevel]]:
    """(left side, value, level) of each equation in order: marks, and those that stand in text."""
    found: list[tuple[int, str, str, CertificateLevel]] = [
        (m.start(), m[1], m[2], "marks") for m in _MARK.finditer(solution)
    ]
    blank = _MARK.sub(lambda m: " " * len(m[0]), solution)
    for equals in _EQUALS.finditer(blank):
        left = _LEFT_SIDE.search(blank, max(0, equals.start() - 80), equals.start())
        if left is not None:
            found.append((equals.start(), left[0].strip(" .,"), equals[1], "numbers"))
    return [equation for _, *equation in sorted(found)]  # type: ignore[misc]


def _steps(
    equations: Sequence[tuple[str, str, CertificateLevel]], mentions: Sequence[NumberMention]
) -> list[_Step]:
    steps: list[_Step] = []
    for left, right, level in equations:
        source = "".join(_TOKEN.findall(_plain(left)))
        value = to_number(right)
        if value is None or not re.search(r"\d[-+*/)]", source):
            continue
        try:
            tree = ast.parse(_no_octal(source), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        if len(source) > 200 or not _is_arithmetic(tree):
            continue
        operands = {
            node.col_offset: _resolve(_literal(node), steps, mentions)
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
        }
        steps.append(_Step(level, f"{source}={_plain(right)}", tree, operands, value))
    return steps


def _plain(expression: str) -> str:
    out = expression.replace(",", "").replace("–", "-").replace("÷", "/")
    out = re.sub(r"(?<=[\d)% ])[x×](?=[\d( $])", "*", out)
    return re.sub(r"(\d+(?:\.\d+)?)%", r"(\1/100)", out)


def _no_octal(source: str) -> str:
    return re.sub(r"(?<![\d.])0+(?=\d)", "", source)


def _is_arithmetic(tree: ast.expr) -> bool:
    allowed = (ast.BinOp, ast.UnaryOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub)
    return all(isinstance(node, allowed) for node in ast.walk(tree))


def _resolve(value: Fraction, steps: Sequence[_Step], mentions: Sequence[NumberMention]) -> Operand:
    """What a number in an equation stands for: an earlier result before a problem's number.

    Where it could be either, the problem's number is thus never called needed by mistake.
    """
    for index in range(len(steps) - 1, -1, -1):
        if steps[index].value == value:
            return ("result", index)
    for index, mention in enumerate(mentions):
        if mention.value == value:
            return ("input", index)
    for index, mention in enumerate(mentions):
        if mention.kind in ("percent", "money") and value in (
            mention.value * 100,
            mention.value / 100,
        ):
            return ("input", index)
    return ("const", value)


def to_number(answer: object) -> Fraction | None:
    """The number that a gold answer states: its text after "####" or its last number."""
    text = str(answer).rsplit("####", 1)[-1].strip()
    plain = text.replace(",", "").replace("$", "").rstrip("%. ")
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        found = numbers(text)
        return found[-1].value if len(found) == 1 else None


def last_number(text: str) -> Fraction | None:
    """The last number that a reply states, for a quick check of a reply to a math problem."""
    found = numbers(text)
    return found[-1].value if found else None


def needs_of_arguments(answer: object, mentions: Sequence[NumberMention]) -> Mapping[int, Need]:
    """Numbers of a request that a call must get as an argument, by index into `mentions`.

    answer: function calls as BFCL gives them, `[{"name": {"argument": [allowed values]}}]`. A
    number that may be left out (an allowed value is "") or that fits two arguments is not needed.
    """
    users: dict[int, list[str]] = {}
    for call in answer if isinstance(answer, list) else []:
        for name, arguments in call.items() if isinstance(call, dict) else []:
            for argument, allowed in arguments.items() if isinstance(arguments, dict) else []:
                values = allowed if isinstance(allowed, list) else [allowed]
                for index, mention in enumerate(mentions):
                    if "" not in values and any(_equals(v, mention.value) for v in values):
                        users.setdefault(index, []).append(f"{name}({argument}={values[0]!r})")
    return {
        i: Need("numbers", additive=False, equation=where[0])
        for i, where in users.items()
        if len(where) == 1
    }


def _equals(value: object, number: Fraction) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return Fraction(str(value)) == number
    except ValueError:
        return False
