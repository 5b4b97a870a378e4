"""A reference solution as a chain of equations: which numbers of the problem does it need?

A reference solution is read as a chain of equations, from GSM8K's calculator marks
(`<<16-3-4=9>>`, level `marks`) or else from the equations in its text (level `numbers`). Each
operand is an earlier result, a number of the problem, or a constant. The problem's number is
needed when the answer moves as it moves: the chain is recomputed with the number nudged, so that
a number that cancels out, or that only ever appears in a side remark, is not called needed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.types import CertificateLevel

#: A longer left side is no equation that a person wrote.
MAX_EQUATION = 200
#: Nor is a longer text a worked solution of one problem.
MAX_SOLUTION = 20_000

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
class _Operand:
    """A number in an equation: an earlier result, a number of the problem, or a constant.

    index: of the result or the problem's number. factor: what that is multiplied by where the
    equation writes it otherwise ("20%" as 20 is 100 times 1/5); a constant's value.
    """

    kind: Literal["result", "input", "constant"]
    index: int
    factor: Fraction


@dataclass(frozen=True, slots=True)
class _Step:
    """One equation. program: its left side in reverse Polish notation; value: its right side."""

    level: CertificateLevel
    source: str
    program: tuple[_Operand | str, ...]
    value: Fraction

    def uses(self, mention: int) -> bool:
        return any(
            isinstance(o, _Operand) and o.kind == "input" and o.index == mention
            for o in self.program
        )


@dataclass(frozen=True, slots=True)
class SolutionGraph:
    """The equations of a solution in order, with their operands resolved."""

    steps: tuple[_Step, ...]
    inputs: tuple[Fraction, ...]
    answer: Fraction

    def needs(self) -> dict[int, Need]:
        """How the answer depends on the problem's numbers, by index; others it does not need.

        Empty where the chain does not come out at the answer.
        """
        if self._final(self.inputs) != self.answer:
            return {}
        found = ((i, self._need(i)) for i in range(len(self.inputs)))
        return {i: need for i, need in found if need is not None}

    def _need(self, mention: int) -> Need | None:
        users = [step for step in self.steps if step.uses(mention)]
        if not users:
            return None
        low, high = (self._final(self._nudged(mention, by)) for by in (1, 2))
        if low is None or high is None or low == self.answer:
            return None
        additive = abs(low - self.answer) == 1 and high - low == low - self.answer
        evidence = next((s for s in users if s.level == "marks"), users[0])
        return Need(evidence.level, additive, evidence.source)

    def _nudged(self, mention: int, by: int) -> tuple[Fraction, ...]:
        return (*self.inputs[:mention], self.inputs[mention] + by, *self.inputs[mention + 1 :])

    def _final(self, inputs: Sequence[Fraction]) -> Fraction | None:
        """The last result that stood for the answer; None where it is undefined."""
        results: list[Fraction | None] = []
        final: Fraction | None = None
        for step in self.steps:
            results.append(_run(step.program, results, inputs))
            if step.value == self.answer:
                final = results[-1]
        return final


def _run(
    program: Sequence[_Operand | str],
    results: Sequence[Fraction | None],
    inputs: Sequence[Fraction],
) -> Fraction | None:
    """The value of a program; None where it divides by zero or rests on an undefined result."""
    stack: list[Fraction] = []
    for item in program:
        if isinstance(item, str):
            right, left = stack.pop(), stack.pop()
            if item == "/" and not right:
                return None
            stack.append(_OPERATIONS[item](left, right))
            continue
        value: Fraction | None = item.factor
        if item.kind != "constant":
            value = results[item.index] if item.kind == "result" else inputs[item.index]
            if value is not None and item.factor != 1:
                value = value * item.factor
        if value is None:
            return None
        stack.append(value)
    return stack[0]


_OPERATIONS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_AST_OPERATIONS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def solution_graph(
    solution: str, answer: object, mentions: Sequence[NumberMention]
) -> SolutionGraph | None:
    """The chain of equations that leads to the answer, or None where there is none to follow."""
    gold = to_number(answer)
    if gold is None or len(solution) > MAX_SOLUTION:
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
        source = "".join(_TOKEN.findall(_plain(left[:MAX_EQUATION])))
        value = to_number(right)
        if value is None or not re.search(r"\d[-+*/)]", source):
            continue
        try:
            tree = ast.parse(_no_octal(source), mode="eval").body
            program = tuple(_program(tree, steps, mentions))
        except (SyntaxError, ValueError):
            continue
        steps.append(_Step(level, f"{source}={_plain(right)}", program, value))
    return steps


def _program(
    node: ast.AST, steps: Sequence[_Step], mentions: Sequence[NumberMention]
) -> Iterator[_Operand | str]:
    """An arithmetic tree in reverse Polish notation. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant):
        yield _resolve(Fraction(str(node.value)), steps, mentions)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _Operand("constant", 0, Fraction(0))
        yield from _program(node.operand, steps, mentions)
        yield "-"
    elif isinstance(node, ast.BinOp) and type(node.op) in _AST_OPERATIONS:
        yield from _program(node.left, steps, mentions)
        yield from _program(node.right, steps, mentions)
        yield _AST_OPERATIONS[type(node.op)]
    else:
        raise ValueError(f"no arithmetic: {ast.dump(node)}")


def _plain(expression: str) -> str:
    out = expression.replace(",", "").replace("–", "-").replace("÷", "/")
    out = re.sub(r"(?<=[\d)% ])[x×](?=[\d( $])", "*", out)
    return re.sub(r"(\d+(?:\.\d+)?)%", r"(\1/100)", out)


def _no_octal(source: str) -> str:
    return re.sub(r"(?<![\d.])0+(?=\d)", "", source)


def _resolve(
    value: Fraction, steps: Sequence[_Step], mentions: Sequence[NumberMention]
) -> _Operand:
    """What a number in an equation stands for: an earlier result before a problem's number.

    Where it could be either, the problem's number is thus never called needed by mistake.
    """
    for index in range(len(steps) - 1, -1, -1):
        if steps[index].value == value:
            return _Operand("result", index, Fraction(1))
    for index, mention in enumerate(mentions):
        if mention.value == value:
            return _Operand("input", index, Fraction(1))
    for index, mention in enumerate(mentions):
        for factor in (Fraction(100), Fraction(1, 100)):
            if mention.kind in ("percent", "money") and value == mention.value * factor:
                return _Operand("input", index, factor)
    return _Operand("constant", 0, value)


_PLAIN_NUMBER = re.compile(r"-?(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})(?:/\d{1,60})?")


def to_number(answer: object) -> Fraction | None:
    """The number that a gold answer states: its text after "####" or its last number."""
    text = str(answer).rsplit("####", 1)[-1].strip()[:MAX_EQUATION]
    plain = text.replace(",", "").replace("$", "").rstrip("%. ")
    exact = _exact(plain)
    if exact is not None or re.search(r"\d[eE]\d", plain):
        return exact
    found = numbers(text)
    return found[-1].value if len(found) == 1 else None


def _exact(plain: str) -> Fraction | None:
    """Digits as a fraction; no exponents, whose value could fill the memory."""
    if not _PLAIN_NUMBER.fullmatch(plain):
        return None
    top, _, bottom = plain.partition("/")
    if bottom and not int(bottom):
        return None
    return Fraction(top) / int(bottom or 1)


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
    return _exact(str(value)) == number
