"""Function calls in every format that models write: gold is right, a changed call is wrong."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from icpo_lite.rewards.graders.actions import read_allowed
from icpo_lite.rewards.graders.call_formats import Call, parse_calls
from icpo_lite.rewards.grading import grade

BFCL = Path(__file__).parents[3] / "shared" / "data" / "asking" / "bfcl_simple_python.jsonl"


def as_python(calls: list[Call]) -> str:
    shown = (f"{n}({', '.join(f'{k}={v!r}' for k, v in a.items())})" for n, a in calls)
    return f"[{', '.join(shown)}]"


def objects(calls: list[Call], key: str = "arguments") -> list[dict[str, Any]]:
    return [{"name": n, key: a} for n, a in calls]


def parameters(arguments: dict[str, Any]) -> str:
    """Values as templates write them: text bare, everything else as JSON."""
    return "".join(
        f"<parameter={k}>\n{v if isinstance(v, str) else json.dumps(v)}\n</parameter>\n"
        for k, v in arguments.items()
    )


FORMATS: dict[str, Callable[[list[Call]], str]] = {
    "python list": as_python,
    "python in prose": lambda c: f"I will call the function.\n\n{as_python(c)}\n\nDone.",
    "python calls, a line each": lambda c: "\n".join(as_python([one])[1:-1] for one in c),
    "python, fenced": lambda c: f"```python\n{as_python(c)}\n```",
    "python, printed": lambda c: (
        "```python\n" + "\n".join(f"print({as_python([one])[1:-1]})" for one in c) + "\n```"
    ),
    "python, assigned": lambda c: (
        "```python\n"
        + "\n".join(f"r{i} = {as_python([x])[1:-1]}" for i, x in enumerate(c))
        + "\n```"
    ),
    "json list": lambda c: json.dumps(objects(c)),
    "json objects": lambda c: "\n".join(map(json.dumps, objects(c))),
    "json, parameters": lambda c: json.dumps(objects(c, "parameters")),
    "json, arguments as text": lambda c: json.dumps(
        [{"name": n, "arguments": json.dumps(a)} for n, a in c]
    ),
    "json, function inside": lambda c: json.dumps(
        [{"type": "function", "function": {"name": n, "arguments": json.dumps(a)}} for n, a in c]
    ),
    "json, tool_calls": lambda c: json.dumps(
        {"tool_calls": [{"id": "1", "type": "function", "function": x} for x in objects(c)]}
    ),
    "json, function named": lambda c: json.dumps([{"function": n, "arguments": a} for n, a in c]),
    "json, by name": lambda c: json.dumps([{n: a} for n, a in c]),
    "json, fenced": lambda c: f"Here it is:\n```json\n{json.dumps(objects(c), indent=2)}\n```\nOk?",
    "json, a fence each": lambda c: "\nThen\n".join(
        f"```json\n{json.dumps(x)}\n```" for x in objects(c)
    ),
    "json in python's quotes": lambda c: str(objects(c)),
    "tool_call": lambda c: "\n".join(
        f"<tool_call>\n{json.dumps(x)}\n</tool_call>" for x in objects(c)
    ),
    "tool_call, unclosed": lambda c: (
        "Sure.\n" + "\n".join(f"<tool_call>\n{json.dumps(x)}" for x in objects(c))
    ),
    "tool_call, a list": lambda c: f"<tool_call>{json.dumps(objects(c))}</tool_call>",
    "TOOL_CALLS": lambda c: f"[TOOL_CALLS] {json.dumps(objects(c))}",
    "function, parameters": lambda c: "\n".join(
        f"<function={n}>\n{parameters(a)}</function>" for n, a in c
    ),
    "function in tool_call": lambda c: "\n".join(
        f"<tool_call>\n<function={n}>\n{parameters(a)}</function>\n</tool_call>" for n, a in c
    ),
    "function, json": lambda c: "".join(f"<function={n}>{json.dumps(a)}</function>" for n, a in c),
    "arg_key": lambda c: "\n".join(
        f"<tool_call>{n}\n"
        + "".join(
            f"<arg_key>{k}</arg_key>\n<arg_value>{v if isinstance(v, str) else json.dumps(v)}"
            "</arg_value>\n"
            for k, v in a.items()
        )
        + "</tool_call>"
        for n, a in c
    ),
    "react": lambda c: (
        "Thought: I need this.\n"
        + "\n".join(f"Action: {n}\nAction Input: {json.dumps(a)}" for n, a in c)
    ),
    "react, fenced": lambda c: "\n".join(
        f"**Action:** `{n}`\n**Action Input:**\n```json\n{json.dumps(a, indent=1)}\n```\n"
        f"Observation: 7\nThought: next"
        for n, a in c
    ),
    "react, json action": lambda c: "\n".join(
        "Action:\n```\n" + json.dumps({"action": n, "action_input": a}) + "\n```" for n, a in c
    ),
    "invoke": lambda c: (
        "<function_calls>\n"
        + "\n".join(
            f'<invoke name="{n}">\n'
            + re.sub(r"<parameter=(\w+)>", r'<parameter name="\1">', parameters(a))
            + "</invoke>"
            for n, a in c
        )
        + "\n</function_calls>"
    ),
    "DeepSeek": lambda c: (
        "<｜tool▁calls▁begin｜>"
        + "\n".join(
            f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{json.dumps(a)}\n```"
            "<｜tool▁call▁end｜>"
            for n, a in c
        )
        + "<｜tool▁calls▁end｜>"
    ),
    "DeepSeek, newer": lambda c: "".join(
        f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{json.dumps(a)}<｜tool▁call▁end｜>" for n, a in c
    ),
    "Kimi": lambda c: (
        "<|tool_calls_section_begin|>"
        + "".join(
            f"<|tool_call_begin|>functions.{n}:{i}<|tool_call_argument_begin|>{json.dumps(a)}"
            "<|tool_call_end|>"
            for i, (n, a) in enumerate(c)
        )
        + "<|tool_calls_section_end|>"
    ),
    "gpt-oss": lambda c: (
        "<|channel|>analysis<|message|>Maybe wrong(x=1)?<|end|>"
        + "".join(
            f"<|start|>assistant<|channel|>commentary to=functions.{n} <|constrain|>json<|message|>"
            f"{json.dumps(a)}<|call|>"
            for n, a in c
        )
    ),
    "gpt-oss, for whom it is first": lambda c: "".join(
        f"<|start|>assistant to=functions.{n}<|channel|>commentary json<|message|>"
        f"{json.dumps(a)}<|call|>"
        for n, a in c
    ),
    "gpt-oss, no special tokens": lambda c: (
        "analysisMaybe wrong(x=1)?"
        + "".join(f"assistantcommentary to=functions.{n} json{json.dumps(a)}" for n, a in c)
    ),
    "yaml": lambda c: f"```yaml\n{yaml.safe_dump(objects(c), sort_keys=False)}```",
    "yaml, a name before its arguments": lambda c: (
        f"Here:\n```yml\n{yaml.safe_dump([{n: a} for n, a in c])}```"
    ),
    "behind a thought": lambda c: f"<think>\nMaybe [wrong(x=1)]? No.\n</think>\n{as_python(c)}",
    "behind a lone end of thought": lambda c: (
        f"Maybe wrong(x=1)?\n</think>\n\n{json.dumps(objects(c))}"
    ),
}
#: One call of every kind of value, and two calls of one function.
TYPED: list[Call] = [
    (
        "shop.order_now",
        {
            "item": 'a (red) "cup", 5,5',
            "count": 3,
            "weight": 1.5,
            "gift": True,
            "note": "true",
            "code": "042",
            "sizes": [1, 2, 3],
            "words": ["x y", "f(z)"],
            "to": {"street": "High St. 5", "floors": [1.5, -2], "lift": False},
        },
    )
]
TWO: list[Call] = [("f", {"x": 1}), ("f", {"x": -2}), ("g", {"when": "6:30 PM", "all": False})]


def allowed(calls: list[Call]) -> list[dict[str, Any]]:
    return [{n: {k: [nested(v)] for k, v in a.items()}} for n, a in calls]


def nested(value: Any) -> Any:
    """A mapping as BFCL gives one: a list of allowed values for each of its own."""
    return {k: [v] for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("calls", [TYPED, TWO, TWO[::-1]], ids=["typed", "two", "order"])
def test_gold_calls_are_right_in_every_format(form: str, calls: list[Call]) -> None:
    gold = allowed(TWO if calls is not TYPED else TYPED)
    assert grade("actions", FORMATS[form](calls), gold).correct, FORMATS[form](calls)


def changed(calls: list[Call]) -> Iterator[list[Call]]:
    """Each call with one thing wrong: its name, a value, an argument too many or too few."""
    for at, (name, arguments) in enumerate(calls):
        rest = [*calls[:at], *calls[at + 1 :]]
        yield rest or [("nothing_like_it", {})]
        yield [*rest, (f"{name}s", arguments)]
        yield [*rest, (name, {**arguments, "no_such": 1})]
        for key, value in arguments.items():
            yield [*rest, (name, {k: v for k, v in arguments.items() if k != key})]
            yield [*rest, (name, {**arguments, key: wrong(value)})]


def wrong(value: Any) -> Any:
    """A value that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "z"
    if isinstance(value, list):
        return [*value, 7]
    return {**value, "more": 1}


@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_call_is_wrong_in_every_format(form: str) -> None:
    for calls in (TYPED, TWO):
        for bad in changed(calls):
            assert not grade("actions", FORMATS[form](bad), allowed(calls)).correct, bad


@pytest.mark.parametrize(
    ("reply", "gold", "right"),
    [
        ('{"name": "f", "arguments": {"x": 5}}', [{"f": {"x": [5.0]}}], True),
        ('{"name": "f", "arguments": {"x": 5.0}}', [{"f": {"x": [5]}}], False),
        ('{"name": "f", "arguments": {"x": "5"}}', [{"f": {"x": [5]}}], False),
        ('{"name": "f", "arguments": {"x": "true"}}', [{"f": {"x": [True]}}], False),
        ('{"name": "f", "arguments": {"x": true}}', [{"f": {"x": [True]}}], True),
        ('{"name": "f", "arguments": {"x": 1}}', [{"f": {"x": [True]}}], False),
        ('{"name": "f", "arguments": {"x": null}}', [{"f": {"x": [None]}}], True),
        ("<function=f><parameter=x>5</parameter></function>", [{"f": {"x": [5]}}], True),
        ("<function=f><parameter=x>5</parameter></function>", [{"f": {"x": ["5"]}}], True),
        ("<function=f><parameter=x>true</parameter></function>", [{"f": {"x": [True]}}], True),
        ("<function=f><parameter=x>true</parameter></function>", [{"f": {"x": ["true"]}}], True),
        ("<function=f><parameter=x>4</parameter></function>", [{"f": {"x": [5]}}], False),
        ('{"name": "f"}', [{"f": {"x": ["", 3]}}], True),
        ('{"name": "f", "arguments": {}}', [{"f": {"x": ["", 3]}}], True),
        ('{"name": "f", "arguments": {"x": 3}}', [{"f": {"x": ["", 3]}}], True),
        ('{"name": "f", "arguments": {"x": 4}}', [{"f": {"x": ["", 3]}}], False),
        ('{"name": "a_b", "arguments": {"x": 1}}', [{"a.b": {"x": [1]}}], True),
        ("calculate\\_area(x=1)", [{"calculate_area": {"x": [1]}}], True),
        ("f(x=[1.0, 2])", [{"f": {"x": [[1, 2]]}}], False),
        ("f({'x': 1})", [{"f": {"x": [1]}}], False),
        ("f(**{'x': 1})", [{"f": {"x": [1]}}], True),
        ('{"x": 1}', [{"f": {"x": [1]}}], False),
        ("I would call f, but which x do you mean?", [{"f": {"x": [1]}}], False),
        ("f(x) takes one number: f(x=1)", [{"f": {"x": [1]}}], True),
    ],
)
def test_values_and_names(reply: str, gold: Any, right: bool) -> None:
    assert grade("actions", reply, gold).correct is right


def test_the_schema_says_what_a_number_is_and_which_comes_first() -> None:
    schema = {
        "name": "f",
        "parameters": {
            "properties": {
                "x": {"type": "float"},
                "n": {"type": "integer"},
                "xs": {"type": "array", "items": {"type": "number"}},
            }
        },
    }
    gold = [{"f": {"x": [4], "n": [2], "xs": [[1, 3]]}}]
    for functions in ([schema], [{"type": "function", "function": schema}]):
        columns = {"functions": functions}
        assert grade("actions", "f(x=4.0, n=2, xs=[1.0, 3])", gold, columns).correct
        assert grade("actions", "f(4, 2, [1, 3])", gold, columns).correct
        assert not grade("actions", "f(x=4.0, n=2.0, xs=[1.0, 3])", gold, columns).correct
        assert not grade("actions", "f(2, 4, [1, 3])", gold, columns).correct
    spoken = "The radius(es) are given (see f(x, n, xs)), so: f(x=4, n=2, xs=[1, 3])"
    assert grade("actions", spoken, gold, {"functions": [schema]}).correct


@pytest.mark.parametrize(
    "gold",
    [
        [{"name": "f", "arguments": {"x": 1}}],
        '[{"name": "f", "arguments": {"x": 1}}]',
        [{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}],
        ["f(x=1)"],
        "[f(x=1)]",
        '[{"f": {"x": [1]}}]',
    ],
)
def test_gold_calls_in_other_forms(gold: Any) -> None:
    assert grade("actions", "f(x=1)", gold).correct
    assert not grade("actions", "f(x=2)", gold).correct


def gold_rows() -> list[tuple[dict[str, Any], Any]]:
    answers = BFCL.with_name("bfcl_simple_python_answers.jsonl")
    rows = {r["id"]: r for r in map(json.loads, BFCL.read_text().splitlines())}
    golds = {r["id"]: r["ground_truth"] for r in map(json.loads, answers.read_text().splitlines())}
    return [(rows[key], golds[key]) for key in rows]


def first_values(gold: Any) -> list[Call]:
    """The first allowed value of each argument that has to be given."""
    return [
        (name, {k: first(v[0]) for k, v in choices.items() if v[0] != ""})
        for name, choices in read_allowed(gold)
    ]


def first(value: Any) -> Any:
    return {k: v[0] for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.skipif(not BFCL.is_file(), reason="BFCL's rows are not here")
@pytest.mark.parametrize("form", FORMATS)
def test_published_gold_calls_are_right_and_changed_ones_wrong(form: str) -> None:
    rows = gold_rows()
    right = [
        grade("actions", FORMATS[form](first_values(gold)), gold, {"functions": row["function"]})
        for row, gold in rows
    ]
    assert sum(g.correct for g in right) == len(rows)
    for row, gold in rows:
        ((name, arguments),) = first_values(gold)
        key = next(iter(arguments))
        bad = [(name, {**arguments, key: wrong(arguments[key])})]
        assert not grade(
            "actions", FORMATS[form](bad), gold, {"functions": row["function"]}
        ).correct


@pytest.mark.parametrize(
    "text", ["f(", "[", "{", '{"a":', "<tool_call>", "Action: x\n", "```\n", "\\", "'", "f(x=1) "]
)
def test_no_reply_takes_long(text: str) -> None:
    reply = text * (100_000 // len(text))
    started = time.process_time()
    parse_calls(reply)
    assert time.process_time() - started < 0.2  # 0.05 where nothing else runs
