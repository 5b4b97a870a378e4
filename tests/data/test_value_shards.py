"""Facts and removals of actions, database and code requests, by their gold answers' values."""

import json
from pathlib import Path

import pytest
from task_cases import ROWS, human_eval_rows, write_rows

from icpo_lite.core.types import Intent, Problem
from icpo_lite.data.augment import AugmentOptions, augment
from icpo_lite.data.code_arguments import is_of_arguments
from icpo_lite.data.code_text import single_examples
from icpo_lite.data.gold_values import noun_of
from icpo_lite.data.shard_checks import RejectedError
from icpo_lite.data.sources import read_problems
from icpo_lite.data.value_shards import shard_by_values, shard_problem

BFCL = Path(__file__).parents[3] / "shared" / "data" / "asking" / "bfcl_simple_python.jsonl"


def function(name, required, **properties):
    return {"name": name, "parameters": {"properties": properties, "required": required}}


def action(question, arguments, *, required=None, **properties):
    known = {name: properties.get(name, {"type": "string"}) for name in arguments}
    wanted = list(arguments) if required is None else required
    gold = [{"f": {k: v if isinstance(v, list) else [v] for k, v in arguments.items()}}]
    columns = {"functions": [function("f", wanted, **known)]}
    return Problem("p", "actions", question, gold, columns=columns)


def texts(problem):
    return [s.text for s in shard_by_values(problem).shards]


def left(problem):
    return {r.fact.shard.text: r.text for r in shard_by_values(problem).removals}


@pytest.mark.parametrize(
    ("question", "arguments", "lacking"),
    [
        (
            "Find hotels in Paris for 3 nights.",
            {"city": "Paris", "nights": 3},
            {
                "The city is Paris.": "Find hotels for 3 nights.",
                "The nights: 3 nights.": "Find hotels in Paris.",
            },
        ),
        (
            "Find the roots with coefficients a=1, b=-3, c=2.",
            {"a": 1, "b": -3, "c": 2},
            {
                "Take a = 1.": "Find the roots with coefficients b=-3, c=2.",
                "Take b = -3.": "Find the roots with coefficients a=1, c=2.",
                "Take c = 2.": "Find the roots with coefficients a=1, b=-3.",
            },
        ),
        (
            "Find Thai food near Oslo, Norway.",
            {"cuisine": "Thai", "place": "Oslo, Norway"},
            {
                "The cuisine is Thai.": "Find food near Oslo, Norway.",
                "The place is Oslo, Norway.": "Find Thai food.",
            },
        ),
        (
            "How far is it between New York and Boston?",
            {"origin": "New York", "destination": "Boston"},
            {
                "The origin is New York.": "How far is it between a certain origin and Boston?",
                "The destination is Boston.": "How far is it between New York and a certain "
                "destination?",
            },
        ),
        (
            "Show the forecast for the next 5 days in 'Lima'.",
            {"days": 5, "city": "Lima"},
            {
                "The number of days is 5.": "Show the forecast for the next few days in 'Lima'.",
                "The city is Lima.": "Show the forecast for the next 5 days.",
            },
        ),
        (
            "Sort the list [5, 3, 4] in ascending order.",
            {"list": [[5.0, 3.0, 4.0]], "order": "ascending"},
            {
                "The list is [5, 3, 4].": "Sort a certain list in ascending order.",
                "The order is ascending.": "Sort the list [5, 3, 4] in a certain order.",
            },
        ),
    ],
)
def test_arguments_leave_a_readable_request(question, arguments, lacking):
    assert left(action(question, arguments)) == lacking


def test_what_the_function_does_not_require_is_no_fact():
    question = "Find hotels in Paris for 3 nights under 90 dollars."
    optional = {"city": "Paris", "nights": ["", 3], "most": 90}
    problem = action(question, optional, required=["city", "nights"])
    assert list(left(problem)) == ["The city is Paris."]
    default = action(question, {"city": "Paris", "nights": 3}, nights={"description": "Default 1."})
    assert list(left(default)) == ["The city is Paris."]


def test_a_value_that_is_said_twice_stays():
    problem = action(
        "Fly to Lima; Lima is where I live. For 2 people.", {"to": "Lima", "people": 2}
    )
    assert list(left(problem)) == ["The people: 2 people."]
    both = action("From 3 to 3 o'clock in Rome.", {"start": 3, "end": 3, "city": "Rome"})
    assert list(left(both)) == ["The city is Rome."]


def test_the_question_and_the_facts_say_all_that_the_request_says():
    problem = action(
        "Find hotels in Paris for 3 nights. Cheap ones.", {"city": "Paris", "nights": 3}
    )
    assert texts(problem) == [
        "Find hotels.",
        "The city is Paris.",
        "The nights: 3 nights.",
        "Cheap ones.",
    ]


@pytest.mark.parametrize(
    ("question", "query", "lacking"),
    [
        (
            "How many singers are from France and older than 20?",
            "SELECT count(*) FROM singer WHERE country = 'France' AND age > 20",
            {
                "The country is France.": "How many singers are from a certain country and older "
                "than 20?",
                "The age is 20.": "How many singers are from France and older than a certain age?",
            },
        ),
        (
            "What are the top 3 stadiums in 2014?",
            "SELECT name FROM stadium WHERE year = 2014 ORDER BY capacity DESC LIMIT 3",
            {
                "The number of stadiums is 3.": "What are the top few stadiums in 2014?",
                "The year is 2014.": "What are the top 3 stadiums in a certain year?",
            },
        ),
        (
            'Whose song is called "Hey Oh"?',
            'SELECT T1.name FROM singer AS T1 WHERE T1.song_name LIKE "%Hey Oh%"',
            {"The song is Hey Oh.": "Whose song is called a certain song?"},
        ),
        (
            "Show the concerts between 2014 and 2016.",
            "SELECT * FROM concert WHERE year BETWEEN 2014 AND 2016",
            {"The year is 2014.": "Show the concerts between a certain year and 2016."},
        ),
    ],
)
def test_what_a_query_compares_with_becomes_a_gap(question, query, lacking):
    assert left(Problem("p", "database", question, query)) == lacking


def test_a_hint_that_tells_the_value_keeps_it():
    problem = Problem(
        "p",
        "database",
        "How many pay in EUR?",
        "SELECT count(*) FROM c WHERE currency = 'EUR'",
        columns={"evidence": "euro is 'EUR'"},
    )
    assert not left(problem)


def code(request, solution, **answer):
    tests = {"tests": ["assert f(1)"], "entry_point": "f", **answer}
    return Problem("p", "code", request, tests, solution=solution)


def test_a_constant_of_the_reference_solution_goes_with_the_examples():
    prompt = (
        'def f(n):\n    """Count the numbers below n that are divisible by 7.\n    Zero is one.\n\n'
        '    >>> f(50)\n    7\n    """'
    )
    problem = code(prompt, "    return len(range(7, n, 7))", prompt=prompt)
    (removal,) = shard_by_values(problem).removals
    assert [s.text for s in removal.shards] == [
        'In "that are divisible by a certain number", the number is 7.',
        "For example:\n>>> f(50)\n7",
    ]
    assert "7" not in removal.text
    assert removal.text.startswith(
        'def f(n):\n    """Count the numbers below n that are divisible by a certain'
    )
    compile(removal.text + "\n    pass", "prompt", "exec")


def test_what_a_reader_could_guess_is_no_removal_of_a_value():
    prompt = "Return 'Yes' where a number is one of 1, 3, 5, 7, 9.\nName the function `f(n)`."
    problem = code(prompt, "def f(n):\n    return 'Yes' if n in (1, 3, 5, 7, 9) else 'No'")
    (removal,) = shard_by_values(problem).removals
    assert removal.text == "Write a Python function.\nName the function `solve(n)`."


def test_a_description_can_go_as_a_whole(tmp_path):
    """Where no requirement can go alone."""
    (problem,) = read_problems(write_rows(tmp_path / "a.jsonl", human_eval_rows()[:1]))
    sharding = shard_by_values(problem)
    (removal,) = sharding.removals
    assert (
        removal.text == "from typing import List\n\n\ndef solve(numbers: List[int]) -> List[int]:"
    )
    assert {s.shard_id for s in removal.shards} == {f.shard.shard_id for f in sharding.facts}
    assert sharding.question.startswith("Write the Python function `scaled_0(numbers: List[int])")
    assert "nothing says what it does" in removal.certificate.incomplete


def test_code_beside_the_function_could_tell_what_it_does():
    helper = 'def encode(s):\n    """Turn a text around."""\n    return s[::-1]\n\n\n'
    prompt = helper + 'def decode(s):\n    """Undo what encode has done to it."""'
    problem = code(prompt, "    return s[::-1]", prompt=prompt)
    assert not shard_by_values(problem).removals


@pytest.mark.parametrize("kind", ["actions", "code", "database"])
def test_prompts_of_a_corpus_lack_what_their_certificates_say(tmp_path, kind):
    problems = list(read_problems(write_rows(tmp_path / "a.jsonl", ROWS[kind]())))
    made = list(augment(problems, AugmentOptions(mid_conversation=0.5, max_removed=2), seed=1))
    lacking = [p for p in made if p.intent is Intent.UNDERSPECIFIED]
    assert len(lacking) == 20
    assert any(len(p.messages) > 1 for p in lacking)
    for prompt in lacking:
        assert prompt.certificate.level == "numbers"
        assert {s.shard_id for s in prompt.removed} <= {s.shard_id for s in prompt.shards}
        for shard in prompt.removed:
            assert shard.text not in prompt.text


def test_a_request_without_a_value_cannot_be_taken_apart():
    with pytest.raises(RejectedError, match="too few facts"):
        shard_problem(action("Sing.", {}))


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("start_location", "start location"),
        ("T1.Country", "country"),
        ("actor_name", "actor"),
        ("name", "name"),
        ("numNights", "number of nights"),
        ("x", "x"),
        ("DNA_id", "dna"),
    ],
)
def test_names_of_arguments_and_columns_as_nouns(name, noun):
    assert noun_of(name) == noun


@pytest.mark.skipif(not BFCL.is_file(), reason="BFCL's rows are not here")
def test_nearly_every_published_request_has_a_certified_removal(tmp_path):
    answers = BFCL.with_name("bfcl_simple_python_answers.jsonl")
    golds = {row["id"]: row for row in map(json.loads, answers.open())}
    rows = [row | golds[row["id"]] for row in map(json.loads, BFCL.open())]
    made = list(augment(read_problems(write_rows(tmp_path / "a.jsonl", rows))))
    lacking = [p for p in made if p.intent is Intent.UNDERSPECIFIED]
    assert len(lacking) >= 0.95 * len(rows)


# ------------------------------------------------------- what a code request holds, one by one

KEEPS = '''def halves(numbers):
    """
    You are given a list of integers.
    Return the half of each even number of the list.
    Return None if there is no such number.
    Note: the list will not contain zero.

    Examples:
    halves([2, 4]) ➞ [1, 2]
    Explanation: both of these numbers are even, so that
                 both of them have a half.
    halves([3]) ➞ None
    """
'''


def test_a_code_request_that_lacks_a_special_case_keeps_all_else() -> None:
    problem = Problem(
        "c",
        "code",
        KEEPS,
        json.dumps(
            {
                "tests": ["assert halves([2]) == [1]", "assert halves([3]) is None"],
                "entry_point": "halves",
            }
        ),
        solution="    return [n // 2 for n in numbers if n % 2 == 0] or None",
    )
    whole, lacking = augment([problem], AugmentOptions(mid_conversation=0.0))
    assert [s.text for s in whole.shards[1:]] == [
        "The certain value: None.",
        "For example:\nExamples:\nhalves([2, 4]) ➞ [1, 2]\nExplanation: both of these numbers are "
        "even, so that\nboth of them have a half.\nhalves([3]) ➞ None",
        "You are given a list of integers.",
        "Return the half of each even number of the list.",
        "Note: the list will not contain zero.",
    ]
    assert "Return the half of each even number of the list." in lacking.text
    assert "Return a certain value if there is no such number." in lacking.text
    assert "None" not in lacking.text
    assert lacking.text.startswith("def halves(numbers):"), "its name tells nothing of it"
    assert [s.shard_id for s in lacking.removed] == [1, 2]


@pytest.mark.parametrize(
    ("sentence", "stays"),
    [
        ("You are given a positive integer n.", True),
        ("The input list is guaranteed to hold unique elements.", True),
        ("Assume n > 1.", True),
        ("If the array is empty, return -1.", True),
        ("Return an empty list if there are no odd numbers.", True),
        ("You are given a list of integers and have to sort them.", False),
        ("Return the sum of the list.", False),
        ("If the list holds an odd number, return its square.", False),
        ("A word is happy if no two of its letters are equal.", False),
    ],
)
def test_what_tells_the_task_is_told_from_what_tells_of_the_arguments(
    sentence: str, stays: bool
) -> None:
    assert is_of_arguments(sentence) == stays


def test_examples_are_facts_of_their_own_up_to_a_few() -> None:
    shown = "Examples:\n>>> f(1)\n2\n>>> f(2)\n4\n>>> f(3)\n6\n>>> f(4)\n8\n>>> f(5)\n10"
    assert single_examples(shown, "f") == [
        ">>> f(1)\n2", ">>> f(2)\n4", ">>> f(3)\n6", ">>> f(4)\n8\n>>> f(5)\n10",
    ]  # fmt: skip
    assert single_examples("f(1) == 2\nf(2) == 4", "f") == ["f(1) == 2", "f(2) == 4"]
    assert single_examples("Input: 1\nOutput: 2\nInput: 2\nOutput: 4", "f") == [
        "Input: 1\nOutput: 2", "Input: 2\nOutput: 4",
    ]  # fmt: skip
    assert single_examples("", "f") == []
