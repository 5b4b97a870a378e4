"""Twenty rows of each kind of task, as corpora publish them."""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_CITIES = ("Paris", "Lima", "Oslo", "Cairo", "Quito")


def math_rows() -> list[Row]:
    return [
        {
            "question": f"Ann buys {n} boxes of pens. Each box costs ${n + 3}. She pays with "
            "$999. How much change does she get?",
            "answer": f"The pens cost {n}*{n + 3}=$<<{n}*{n + 3}={n * (n + 3)}>>{n * (n + 3)}. She "
            f"gets 999-{n * (n + 3)}=$<<999-{n * (n + 3)}={999 - n * (n + 3)}>>"
            f"{999 - n * (n + 3)}.\n#### {999 - n * (n + 3)}",
        }
        for n in range(4, 24)
    ]


def action_rows() -> list[Row]:
    """BFCL's form."""
    function = {
        "name": "hotels.book",
        "description": "Book a room.",
        "parameters": {
            "type": "dict",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "nights": {"type": "integer", "description": "How long."},
                "breakfast": {"type": "boolean", "description": "Default is false."},
            },
            "required": ["city", "nights"],
        },
    }
    return [
        {
            "id": f"simple_{n}",
            "question": [
                [
                    {
                        "role": "user",
                        "content": f"Book a room in {_CITIES[n % 5]} for {n + 2} nights.",
                    }
                ]
            ],
            "function": [function],
            "ground_truth": [
                {
                    "hotels.book": {
                        "city": [_CITIES[n % 5]],
                        "nights": [n + 2],
                        "breakfast": ["", False],
                    }
                }
            ],
        }
        for n in range(20)
    ]


def mbpp_rows() -> list[Row]:
    return [
        {
            "task_id": n,
            "text": "Write a function to count the numbers of a list that are divisible by "
            f"{n + 3}.",
            "code": f"def count_{n}(numbers):\n    return sum(x % {n + 3} == 0 for x in numbers)",
            "test_list": [
                f"assert count_{n}([{n + 3}, {2 * n + 6}, {n + 4}]) == 2",
                f"assert count_{n}([]) == 0",
            ],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for n in range(20)
    ]


def human_eval_rows() -> list[Row]:
    return [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": "from typing import List\n\n\n"
            f"def scaled_{n}(numbers: List[int]) -> List[int]:\n"
            '    """ Multiply every number of the list by the one before it, the first by itself.\n'
            f"    >>> scaled_{n}([2, 3])\n    [4, 6]\n"
            '    """\n',
            "canonical_solution": "    before = numbers[:1] + numbers[:-1]\n"
            "    return [a * b for a, b in zip(before, numbers)]\n",
            "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n"
            "    assert candidate([2, 3]) == [4, 6]\n    assert candidate([]) == []\n",
            "entry_point": f"scaled_{n}",
        }
        for n in range(20)
    ]


def spider_rows() -> list[Row]:
    schema = (
        "CREATE TABLE singer (name TEXT, country TEXT, age INTEGER);\n"
        "INSERT INTO singer VALUES ('Ann; B', 'France', 25), ('Cid', 'France', 45), "
        "('Dan', 'Peru', 33);"
    )
    return [
        {
            "question": f"How many singers from France are older than {n + 20}?",
            "query": f"SELECT count(*) FROM singer WHERE country = 'France' AND age > {n + 20}",
            "schema": schema,
        }
        for n in range(20)
    ]


ROWS = {
    "math": math_rows,
    "actions": action_rows,
    "code": mbpp_rows,
    "database": spider_rows,
}


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
