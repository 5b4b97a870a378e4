"""The process that runs a row's tests, and has never run the reply.

The function under test is a stand-in: a call sends its arguments to the reply's process and takes
a plain value back. So an assert compares values that this process built, with Python's own `==`.
Runs inside a sandbox of its own, by its text: tests are code of a data set.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import os
import symtable
import sys
import types
from collections import deque

from icpo_lite.rewards.graders import plain_values
from icpo_lite.rewards.graders.plain_values import NotPlainError, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, NoReturn

#: Modules whose functions tests use without importing them: the reply was expected to.
_USUAL = (
    *("math", "cmath", "collections", "itertools", "functools", "heapq", "bisect", "copy"),
    *("string", "random", "operator", "statistics", "datetime", "fractions", "decimal", "typing"),
)
#: Raised through map or a generator they would end it early, as if nothing were left to check.
_ENDING = ("StopIteration", "StopAsyncIteration")


class ReplyError(Exception):
    """An exception of the reply that is none of Python's own."""


class EndError(RuntimeError):
    """The reply's StopIteration, which may only end what the test itself iterates over."""


class RefusedError(Exception):
    """What a test may not do to an object that it cannot see into."""


class ReplyEndedError(BaseException):
    """The reply's process is gone, or tried to end the program; no test may catch that."""


class RowFaultError(BaseException):
    """The row's own tests are at fault."""


class Reply:
    """The reply's process, seen from here: names, calls, objects."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._functions: list[Callable[..., Any]] = []
        #: Whether a value of the reply has come: from then on it may be the cause of anything.
        self._heard = False
        self.ended = ""

    def start(self) -> None:
        """Wait until the reply's code has run."""
        self._take()

    def ask(self, *request: Any) -> Any:
        return self._exchange(request)[0]

    def call(self, number: int, arguments: Any, named: Any, *, in_place: bool) -> Any:
        arguments = list(arguments)
        value, changed = self._exchange(("call", number, arguments, named))
        if in_place and type(changed) is list:
            for mine, theirs in zip(arguments, changed, strict=False):
                _take_over(mine, theirs)
        return value

    def _exchange(self, request: Any) -> tuple[Any, Any]:
        if self.ended:
            raise ReplyEndedError(self.ended)
        self._send(request)
        while True:
            kind, first, second = self._take()
            if kind != "call back":
                self._heard |= type(first) is not Object
                return first, second
            self._heard = True
            self._send(self._called_back(first, second))

    def _called_back(self, number: Any, given: Any) -> tuple[bool, Any]:
        """(True, the value of a function that a test has handed over), or (False, its error)."""
        try:
            return True, self._functions[number](*given)
        except Exception as error:  # the test's own function: whatever it raises is its answer
            return False, f"{type(error).__name__}: {error}"[:500]

    def _send(self, message: Any) -> None:
        try:
            plain_values.send(self._requests, plain_values.encode(message, self._refer))
        except NotPlainError as error:
            why = f"a test hands over what cannot be sent: {error}"
            if not self._heard:
                raise RowFaultError(why) from None
            self._end(why)
        except OSError:
            self._end("the reply ended the program")

    def _refer(self, value: Any) -> Reference:
        if type(value) is Object:
            return value._reference
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
            self._functions.append(value)
            return Reference(len(self._functions) - 1, plain_values.FUNCTION)
        raise NotPlainError(f"expected plain values, found one of {type(value).__name__}")

    def _take(self) -> tuple[Any, Any, Any]:
        """The next answer: its kind and two values; what the reply raised is raised."""
        try:
            answer = plain_values.decode(plain_values.receive(self._answers), self._object)
            kind, first, second = answer
        except EOFError:
            self._end("the reply ended the program")
        except Exception as error:  # the reply may send any bytes
            self._end(f"the reply sent no value ({type(error).__name__})")
        if kind == "error" and type(first) is str and type(second) is str:
            self._throw(first, second)
        return kind, first, second

    def _object(self, number: int, kind: str) -> Object:
        return Object(self, number, kind)

    def _throw(self, name: str, text: str) -> NoReturn:
        """The reply's exception: Python's own class where it is an ordinary one."""
        kind = getattr(builtins, name, None)
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise ReplyError(text)
        if not issubclass(kind, Exception):
            self._end(text)
        if name in _ENDING:
            raise EndError(text)
        try:
            error = kind(text)
        except TypeError:  # such as UnicodeDecodeError, which takes more
            error = ReplyError(text)
        raise error

    def _end(self, why: str) -> NoReturn:
        self.ended = why
        raise ReplyEndedError(why)


def _take_over(mine: Any, theirs: Any) -> None:
    """Give a list, set or dictionary of the test what the reply has made of it."""
    if type(mine) is not type(theirs):
        return
    if type(mine) in (list, bytearray):
        mine[:] = theirs
    elif type(mine) in (set, dict, deque):
        mine.clear()
        mine.extend(theirs) if type(mine) is deque else mine.update(theirs)


class Object:
    """Something of the reply that is no plain value: to call, to ask, never to compare."""

    __slots__ = ("_reference", "_reply")
    _reply: Reply
    _reference: Reference

    def __init__(self, reply: Reply, number: int, kind: str) -> None:
        object.__setattr__(self, "_reply", reply)
        object.__setattr__(self, "_reference", Reference(number, kind))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._reply.call(self._reference.number, arguments, named, in_place=False)

    def __getattr__(self, name: str) -> Any:
        if name == "__name__":
            return self._reference.kind
        if name.startswith("__"):
            raise AttributeError(name)
        return self._reply.ask("attribute", self._reference.number, name)

    def __getitem__(self, key: Any) -> Any:
        return self._reply.ask("item", self._reference.number, key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._reply.ask("items", self._reference.number))

    def __next__(self) -> Any:
        try:
            return self._reply.ask("next", self._reference.number)
        except EndError:
            raise StopIteration from None

    def __len__(self) -> int:
        length = self._reply.ask("length", self._reference.number)
        return length if type(length) is int else -1

    def __str__(self) -> str:
        text = self._reply.ask("text", self._reference.number)
        return text if type(text) is str else ""

    def __repr__(self) -> str:
        return f"<an object of the reply's class {self._reference.kind[:40]!r}>"

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedError(f"{self!r} cannot be changed by a test")

    def _refuse(self, *_: Any) -> Any:
        raise RefusedError(f"expected a plain value, found {self!r}; it cannot be compared")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = _refuse
    __hash__ = _refuse
    __index__ = __int__ = __float__ = __reduce_ex__ = _refuse


def in_place(function: Any) -> Any:
    """The same call, with what it changes in place: for a call whose value a test throws away."""
    if type(function) is not Object:
        return function
    reply, number = function._reply, function._reference.number
    return lambda *given, **named: reply.call(number, given, named, in_place=True)


class _Statements(ast.NodeTransformer):
    """Calls that are statements: `f(x)` becomes `in_place(f)(x)`."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Call):
            name = ast.Name("__in_place__", ast.Load())
            node.value.func = ast.Call(name, [node.value.func], [])
        return node


def _parsed(source: str, what: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RowFaultError(f"the row's {what} are no Python: {error}") from None


def helpers(prompt: str, entry_point: str) -> ast.Module | None:
    """What a row's prompt defines beside the function that it asks for; None: it is no Python."""
    try:
        tree = ast.parse(prompt)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, kinds) and getattr(node, "name", None) != entry_point
    ]
    return tree


def free_names(source: str) -> set[str]:
    """Names that a piece of code takes from its surroundings, Python's own included."""
    try:
        top = symtable.symtable(source, "<tests>", "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        raise RowFaultError(f"the row's tests are no Python: {error}") from None
    own = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    waiting = list(top.get_children())
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        used |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return used - own


def under_test(
    source: str, free: set[str], entry_point: str, solution: str
) -> tuple[set[str], set[str]]:
    """(names to ask the reply for, names to take from the standard library)."""
    called, owners = _uses(source)
    modules = {n for n in free if n in sys.stdlib_module_names and n in owners and n not in called}
    known = {entry_point} if entry_point else _defined(solution) & free
    unknown = {n for n in free - modules - known if not hasattr(builtins, n)}
    usual = {n for n in unknown if _usual(n) is not None}
    # The one name that is left is what the test is of, whatever else it may be the name of.
    if not known and usual == unknown and len(unknown) == 1:
        usual = set()
    asked = known | (unknown - usual)
    if not asked:  # a function that bears the name of one of Python's own
        asked = _compared(source) & free
    return asked, modules | usual


def _defined(solution: str) -> set[str]:
    try:
        tree = ast.parse(solution)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def _uses(source: str) -> tuple[set[str], set[str]]:
    """Names that are called, and names of which an attribute is taken."""
    called: set[str] = set()
    owners: set[str] = set()
    for node in ast.walk(_parsed(source, "tests")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owners.add(node.value.id)
    return called, owners


def _compared(source: str) -> set[str]:
    """The functions whose values asserts compare or take as they are."""
    found = set()
    for node in ast.walk(_parsed(source, "tests")):
        if isinstance(node, ast.Assert):
            sides = [node.test]
            if isinstance(node.test, ast.Compare):
                sides = [node.test.left]
            calls = [s.func for s in sides if isinstance(s, ast.Call)]
            found |= {f.id for f in calls if isinstance(f, ast.Name)}
    return found


def _usual(name: str) -> Any:
    """What a name means in the modules that are usually imported; None where in none."""
    for module in _USUAL:
        loaded = importlib.import_module(module)
        if name in getattr(loaded, "__all__", ()) or (
            module in ("math", "cmath", "operator", "datetime") and name in vars(loaded)
        ):
            return getattr(loaded, name)
    return None


def surroundings(source: str, job: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """The names that a test starts with: the row's own, Python's, and stand-ins for the reply's."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where unittest looks for tests
    scope = vars(module)
    scope["__in_place__"] = in_place
    _define(job, scope)
    entry_point = job["entry_point"]
    free = free_names(source) - set(scope)
    asked, taken = under_test(source, free, entry_point, job["solution"])
    for name in taken:
        whole = name in sys.stdlib_module_names
        scope[name] = importlib.import_module(name) if whole else _usual(name)
    for name in asked - {"candidate"} if entry_point else asked:
        try:
            scope[name] = reply.ask("get", name)
        except NameError:
            if hasattr(builtins, name):  # else the test would be of Python's own function
                raise
    if entry_point and "candidate" in free:
        scope["candidate"] = scope[entry_point]
    return scope


def _define(job: dict[str, Any], scope: dict[str, Any]) -> None:
    """What the row's prompt and its setup lines define, which a reply may not replace."""
    prompt = helpers(job["prompt"], job["entry_point"])
    for node in prompt.body if prompt else []:
        with contextlib.suppress(Exception):  # a package that is not here, a name that is not
            exec(compile(ast.Module([node], []), "<prompt>", "exec"), scope)
    if job["setup"]:
        tree = _parsed(job["setup"], "setup lines")
        try:
            exec(compile(tree, "<setup>", "exec"), scope)
        except Exception as error:  # the row's code, whatever it raises
            raise RowFaultError(f"the row's setup lines fail: {error}") from None


def run_source(source: str, job: dict[str, Any], reply: Reply) -> None:
    """Run one test; an exception means that it does not pass."""
    entry_point = job["entry_point"]
    if entry_point and "def check(" in source:
        source = f"{source}\ncheck({entry_point})\n"
    scope = surroundings(source, job, reply)
    tree = ast.fix_missing_locations(_Statements().visit(_parsed(source, "tests")))
    exec(compile(tree, "<tests>", "exec"), scope)


def run_call(given: Any, wanted: Any, job: dict[str, Any], reply: Reply) -> None:
    """Call the function under test and compare what it returns; tuples are lists."""
    function = reply.ask("get", job["function"])
    value = as_json(function(*(given if isinstance(given, list) else [given])))
    if value != wanted:
        raise AssertionError(f"returned {ascii(value)[:60]}, expected {ascii(wanted)[:60]}")


def as_json(value: Any) -> Any:
    """A value with its tuples as lists, which JSON writes alike."""
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    return {k: as_json(v) for k, v in value.items()} if type(value) is dict else value


def judge(job: dict[str, Any], reply: Reply, tell: Callable[[str, str], None]) -> None:
    """Run the tests in order up to the first that does not pass, telling of each."""
    try:
        reply.start()
        for test in job["tests"]:
            if isinstance(test, str):
                run_source(test, job, reply)
            else:
                given, wanted = test
                run_call(given, wanted, job, reply)
            if reply.ended:  # a bare except of the test's has swallowed it
                raise ReplyEndedError(reply.ended)
            tell("passed", "")
    except RowFaultError as error:
        tell("fault", str(error))
    except BaseException as error:  # a test may raise anything, SystemExit and Ctrl-C's too
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        tell("failed", reply.ended or text)


def main(job: dict[str, Any]) -> None:
    reply = Reply(os.fdopen(job["requests"], "wb"), os.fdopen(job["answers"], "rb"))
    report = job["report"]

    def tell(kind: str, text: str) -> None:
        line = " ".join(f"{kind} {text}".split())[:500]
        os.write(report, line.encode(errors="replace") + b"\n")

    judge(job, reply, tell)
    os._exit(0)
