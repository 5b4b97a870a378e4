"""The process that runs a reply's code: it evaluates calls and sends plain values back.

It is never asked for a verdict. Runs inside the sandbox, by its text; whatever the reply does to
it, all that it can send are values, and the judging process compares those by itself.
"""

from __future__ import annotations

import os
import sys
import types

from icpo_lite.rewards.graders import plain_values
from icpo_lite.rewards.graders.plain_values import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

_MOST_ITEMS = 1 << 20


class Server:
    """Names and objects of the reply, by request. Every answer is a value or an error."""

    def __init__(self, scope: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
        self._scope = scope
        self._requests, self._answers = requests, answers
        self._objects: list[Any] = []

    def serve(self) -> None:
        """Answer until nobody asks."""
        while True:
            try:
                request = plain_values.receive(self._requests)
            except EOFError:
                return
            self._send(self.answer(request))

    def _send(self, answer: bytes) -> None:
        try:
            plain_values.send(self._answers, answer)
        except plain_values.NotPlainError as error:  # too long
            plain_values.send(self._answers, failure(error))

    def answer(self, request: bytes) -> bytes:
        """("value", it, the arguments after a call), or ("error", class, message)."""
        try:
            kind, target, *given = plain_values.decode(request, self._resolve)
            arguments: Any = None
            if kind == "call":
                arguments, named = given
                value = self._objects[target](*arguments, **named)
            else:
                value = _REQUESTS[kind](self, target, *given)
            return plain_values.encode(("value", value, arguments), self._refer)
        except BaseException as error:  # the reply's code may raise anything
            return failure(error)

    def get(self, name: str) -> Any:
        """A name of the reply: its own, or a method of its class Solution."""
        if name in self._scope:
            return self._scope[name]
        if name.isidentifier():
            solution = self._scope.get("Solution")
            if solution is not None and hasattr(solution, name):
                return getattr(solution(), name)
            raise NameError(name)
        return eval(name, self._scope)  # an expression that the data set gives for the function

    def attribute(self, number: int, name: str) -> Any:
        return getattr(self._objects[number], name)

    def item(self, number: int, key: Any) -> Any:
        return self._objects[number][key]

    def items(self, number: int) -> list[Any]:
        return [item for item, _ in zip(self._objects[number], range(_MOST_ITEMS), strict=False)]

    def following(self, number: int) -> Any:
        return next(self._objects[number])

    def length(self, number: int) -> int:
        return len(self._objects[number])

    def text(self, number: int) -> str:
        return str(self._objects[number])

    def _refer(self, value: Any) -> Reference:
        self._objects.append(value)
        return Reference(len(self._objects) - 1, type(value).__name__)

    def _resolve(self, number: int, kind: str) -> Any:
        if kind == plain_values.FUNCTION:
            return lambda *given: self._call_back(number, given)
        return self._objects[number]

    def _call_back(self, number: int, given: tuple[Any, ...]) -> Any:
        """The value of a function that a test has handed over, which runs on the test's side."""
        self._send(plain_values.encode(("call back", number, list(given)), self._refer))
        right, value = plain_values.decode(plain_values.receive(self._requests), self._resolve)
        if not right:
            raise ValueError(value)
        return value


_REQUESTS: dict[str, Callable[..., Any]] = {
    "get": Server.get,
    "attribute": Server.attribute,
    "item": Server.item,
    "items": Server.items,
    "next": Server.following,
    "length": Server.length,
    "text": Server.text,
}


def failure(error: BaseException) -> bytes:
    """An exception, as the nearest of Python's own classes and a line of text."""
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    text = f"{type(error).__name__}: {error}"[:500]
    return plain_values.encode(("error", names[0], text))


def load(before: list[str], code: str) -> dict[str, Any]:
    """The reply's names, its code run as a module; before: what the row runs first."""
    module = types.ModuleType("reply")
    sys.modules["reply"] = module
    scope = vars(module)
    for source in before:
        try:
            exec(compile(source, "<setup>", "exec"), scope)
        except Exception:  # such as a prompt that ends in the middle: the reply may not need it
            continue
    exec(compile(code, "<reply>", "exec"), scope)
    return scope


def serve(job: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    """Run the reply, then answer until nobody asks."""
    try:
        server = Server(load(job["before"], job["code"]), requests, answers)
    except BaseException as error:  # as it may when it is loaded
        plain_values.send(answers, failure(error))
        return
    plain_values.send(answers, plain_values.encode(("value", None, None)))
    server.serve()


def main(job: dict[str, Any]) -> None:
    requests, answers = os.fdopen(job["requests"], "rb"), os.fdopen(job["answers"], "wb")
    serve(job, requests, answers)
    os._exit(0)
