"""The process that runs a reply's code: it evaluates calls and sends plain values back.

It is never asked for a verdict. Runs inside the sandbox, by its text; whatever the reply does to
it, all that it can send are values, and the judging process compares those by itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Callable
from itertools import islice
from typing import Any, BinaryIO

from icpo_lite.rewards.graders.plain_values import Reference, decode, encode, receive, send

_MOST_ITEMS = 1 << 20


class Server:
    """Names and objects of the reply, by request. Every answer is a value or an error."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self._scope = scope
        self._objects: list[Any] = []

    def answer(self, request: Any) -> dict[str, Any]:
        """{"value": …}, with "arguments" after a call; or {"error": [class, message]}."""
        try:
            kind, target, *given = request
            if kind == "call":
                return self._call(self._object(target), *given)
            return {"value": self._encode(_REQUESTS[kind](self, target, *given))}
        except BaseException as error:
            name = next(c.__name__ for c in type(error).__mro__ if c.__module__ == "builtins")
            return {"error": [name, f"{type(error).__name__}: {error}"[:500]]}

    def _call(self, function: Any, arguments: Any, named: Any) -> dict[str, Any]:
        arguments = decode(arguments, self._resolve)
        value = function(*arguments, **decode(named, self._resolve))
        # What the call has changed in place, for tests that look at that.
        return {"value": self._encode(value), "arguments": self._encode(arguments)}

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

    def _object(self, number: int) -> Any:
        return self._objects[number]

    def _encode(self, value: Any) -> Any:
        return encode(value, self._refer)

    def _refer(self, value: Any) -> Reference:
        self._objects.append(value)
        return Reference(len(self._objects) - 1, type(value).__name__)

    def _resolve(self, number: int, _: str) -> Any:
        return self._objects[number]


_REQUESTS: dict[str, Callable[..., Any]] = {
    "get": Server.get,
    "attribute": lambda self, number, name: getattr(self._object(number), name),
    "item": lambda self, number, key: self._object(number)[decode(key, self._resolve)],
    "items": lambda self, number: list(islice(iter(self._object(number)), _MOST_ITEMS)),
    "next": lambda self, number: next(self._object(number)),
    "length": lambda self, number: len(self._object(number)),
    "text": lambda self, number: str(self._object(number)),
}


def load(before: list[str], code: str) -> dict[str, Any]:
    """The reply's names, its code run as a module; before: what the row runs first."""
    module = types.ModuleType("reply")
    sys.modules["reply"] = module
    scope = vars(module)
    for source in before:
        # What fails here, such as a prompt that ends in the middle, the reply may not need.
        with contextlib.suppress(Exception):
            exec(compile(source, "<setup>", "exec"), scope)
    exec(compile(code, "<reply>", "exec"), scope)
    return scope


def serve(job: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    """Run the reply, then answer until nobody asks."""
    try:
        server = Server(load(job["before"], job["code"]))
    except BaseException as error:
        send(answers, {"error": ["Exception", f"{type(error).__name__}: {error}"[:500]]})
        return
    send(answers, {"value": None})
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        answer = server.answer(request)
        try:
            send(answers, answer)
        except Exception as error:
            send(answers, {"error": ["ValueError", f"{type(error).__name__}: {error}"[:500]]})


def main(job: dict[str, Any]) -> None:
    requests, answers = os.fdopen(job["requests"], "rb"), os.fdopen(job["answers"], "wb")
    serve(job, requests, answers)
    os._exit(0)
