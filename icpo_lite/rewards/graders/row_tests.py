"""The tests of a code row in every shape that corpora have them, as one record.

    sources   Python: asserts one by one (MBPP's `test_list`), a `check(candidate)` (HumanEval's
              `test`), functions `test_…`, a unittest.TestCase
    pairs     input and output, over standard streams or over calls of a named function:
              [{"input": …, "output": …}, …], {"inputs": […], "outputs": […], "fn_name": …}
    mapping   {"tests": sources or pairs, "setup": …, "entry_point": …, "fn_name": …, "prompt": …},
              which is what `data/task_rows.py` makes of a row

Anything may stand as JSON in a string.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icpo_lite.core.errors import GraderError
from icpo_lite.core.words import bag


@dataclass(frozen=True, slots=True)
class RowTests:
    """What a program is tried on.

    sources: each is run behind the program. pairs: (input, output); the arguments of `function`
    where it is named, else standard input. setup: runs before the program. entry_point: the
    function under test, "" where nothing names it. prompt: code that a reply may go on from.
    """

    sources: tuple[str, ...] = ()
    pairs: tuple[tuple[Any, Any], ...] = ()
    setup: str = ""
    entry_point: str = ""
    function: str = ""
    prompt: str = ""


def read_tests(answer: Any, columns: Mapping[str, Any]) -> RowTests:
    """The tests of a row. Raises GraderError where there are none, or none that tests anything."""
    tests = _loaded(answer)
    row: Mapping[str, Any] = columns
    if isinstance(tests, Mapping) and "tests" in tests:
        # The row's own column `prompt` is prose; the answer's is code.
        row = {**columns, "prompt": "", **{k: v for k, v in tests.items() if v}}
        tests = _loaded(tests["tests"])
    if isinstance(tests, Mapping) and tests.get("fn_name"):
        row = {**row, "fn_name": tests["fn_name"]}
    found = _shaped(tests, row)
    prompt = row.get("prompt") if isinstance(answer, Mapping) else ""
    return RowTests(
        **found,
        setup=str(row.get("setup") or ""),
        prompt=str(prompt or row.get("code_prompt") or ""),
    )


def _shaped(tests: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Sources or pairs, and the function that they try."""
    entry_point = str(row.get("entry_point") or "")
    if pairs := _pairs(tests):
        function = str(row.get("fn_name") or "")
        named = function if function.isidentifier() else entry_point
        return {"pairs": pairs, "function": function, "entry_point": named}
    listed = [tests] if isinstance(tests, str) else tests
    if not _is_list(listed) or not listed or not all(_is_source(t) for t in listed):
        raise GraderError(
            "expected the tests of a code row as Python source, a list of sources, or a list of "
            f"{{input, output}}, found {str(tests)[:60]!r}; change the row"
        )
    entry_point = entry_point or called_function(listed)
    return {
        "sources": tuple(_running(source, entry_point) for source in listed),
        "entry_point": entry_point,
    }


def _loaded(value: Any) -> Any:
    """A value, or what its text holds as JSON; a text that is no JSON is source that starts so."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_source(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _pairs(tests: Any) -> tuple[tuple[Any, Any], ...]:
    """Inputs and outputs, from a list of pairs or from two lists; () where these are none."""
    if isinstance(tests, Mapping):
        for given, wanted in (("inputs", "outputs"), ("input", "output")):
            if given in tests and wanted in tests:
                lists = _is_list(tests[given]) and _is_list(tests[wanted])
                both = (tests[given], tests[wanted]) if lists else ([tests[given]], [tests[wanted]])
                return _zipped(*both)
        return ()
    if not _is_list(tests) or not tests or not all(isinstance(t, Mapping) for t in tests):
        return ()
    for test in tests:
        if not {"input", "output"} <= set(test):
            raise GraderError(f"expected a test with input and output, found {str(test)[:60]!r}")
    return tuple((t["input"], t["output"]) for t in tests)


def _zipped(inputs: Sequence[Any], outputs: Sequence[Any]) -> tuple[tuple[Any, Any], ...]:
    if len(inputs) != len(outputs):
        raise GraderError(
            f"expected as many outputs as inputs, found {len(outputs)} for {len(inputs)}; change "
            "the row"
        )
    return tuple(zip(inputs, outputs, strict=True))


#: What Python brings along: `assert set(similar((3, 4))) == …` is about similar.
_PYTHONS = bag(
    "abs all any bool dict enumerate float frozenset int isinstance len list map max min "
    "print range repr round set sorted str sum tuple type zip"
)


def called_function(sources: Sequence[str]) -> str:
    """The function that every source calls; "" where none or several could be meant."""
    common: set[str] | None = None
    for source in sources:
        body = _tree(source).body
        names = _called_names(body) - _own_names(body) - _PYTHONS
        common = names if common is None else common & names
    return common.pop() if common and len(common) == 1 else ""


def _own_names(statements: Sequence[ast.stmt]) -> set[str]:
    """Functions, classes and parameters of the tests themselves."""
    nodes = [node for statement in statements for node in ast.walk(statement)]
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return defined | {n.arg for n in nodes if isinstance(n, ast.arg)}


def _called_names(statements: Sequence[ast.stmt]) -> set[str]:
    return {
        node.func.id
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise GraderError(
            f"expected tests in Python, found {type(error).__name__} in {source[:60]!r}; change "
            "the row"
        ) from None


def _running(source: str, entry_point: str) -> str:
    """Tests with what makes them run: a check or test functions that nothing calls test nothing."""
    body = _tree(source).body
    functions = {n.name: n for n in body if isinstance(n, ast.FunctionDef)}
    outside = [n for n in body if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
    called = _called_names(outside)
    lines = [source.rstrip()]
    if "check" in functions and "check" not in called:
        if not entry_point:
            raise GraderError(
                "expected the name of the function that check(candidate) tries, found none; add a "
                "column entry_point"
            )
        lines.append(f"check({entry_point})")
    lines += [f"{name}()" for name in functions if name not in called and _is_test(functions[name])]
    if any(_is_test_case(n) for n in body if isinstance(n, ast.ClassDef)):
        lines.append(_UNITTEST)
    if len(lines) == 1 and not any(map(_tries, outside)):
        raise GraderError(
            f"expected tests that try something, found {source.strip()[:60]!r}; change the row"
        )
    return "\n".join(lines) + "\n"


def _is_test(function: ast.FunctionDef) -> bool:
    return function.name.startswith("test") and not function.args.args


def _is_test_case(node: ast.ClassDef) -> bool:
    return any("TestCase" in ast.unparse(base) for base in node.bases)


def _tries(node: ast.stmt) -> bool:
    return any(isinstance(n, ast.Assert | ast.Raise | ast.Call) for n in ast.walk(node))


_UNITTEST = """
import unittest as __unittest
__cases = [c for c in list(globals().values())
           if isinstance(c, type) and issubclass(c, __unittest.TestCase)]
__suite = __unittest.TestSuite(map(__unittest.defaultTestLoader.loadTestsFromTestCase, __cases))
__result = __unittest.TextTestRunner().run(__suite)
assert __result.testsRun and __result.wasSuccessful(), 'a unittest fails'
"""
