"""The built-in world: word problems about who has how many, made by a seeded procedure.

A problem is a question and two to four facts, each fact one number; the answer is their signed
sum. The question names every slot ("... after shopping and losing some?"), so that a problem
without one of its facts is never a smaller problem that is complete.

Splits are disjoint in (template, numbers), by hash: whatever is drawn, no problem of one split is
in another. `train`, `dev` and `test` use the wordings that RL trains on; `transfer` holds
templates and wordings that RL never sees (pre-training does), with numbers of the test split.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from icpo_lite.core.errors import DataError
from icpo_lite.core.types import Certificate, Intent, Message, Problem, Prompt, Shard

Split = Literal["train", "dev", "test", "transfer"]
SPLITS: tuple[str, ...] = get_args(Split)

NAMES = ("Ann", "Ben", "Carl", "Dora", "Emma", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kim", "Leo")
OBJECTS = (
    "apples", "pears", "plums", "nuts", "cookies", "sweets", "cherries", "figs", "dates", "rolls",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """One fact of a template.

    sign: how its number enters the answer. ask: the question whose answer this fact is.
    facts: its wordings; the last one is held out from RL.
    """

    sign: int
    ask: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of problem; the last of `questions` is a wording held out from RL."""

    name: str
    questions: tuple[str, ...]
    slots: tuple[Slot, ...]
    held_out: bool = False


def _has(who: str) -> Slot:
    return Slot(
        +1,
        f"How many {{o}} does {who} have?",
        (f"{who} has {{n}} {{o}}.", f"{who} owns {{n}} {{o}}.", f"{who} starts with {{n}} {{o}}."),
    )


_BUYS = Slot(
    +1,
    "How many {o} does {a} buy?",
    ("{a} buys {n} {o}.", "{a} buys {n} more {o}.", "{a} picks up {n} {o} at the shop."),
)
_LOSES = Slot(
    -1,
    "How many {o} does {a} lose?",
    ("{a} loses {n} {o}.", "{a} then loses {n} {o}.", "{a} drops {n} {o} on the way."),
)
_GIFT = Slot(
    +1,
    "How many {o} does {a} get as a gift?",
    ("{a} gets {n} {o} as a gift.", "A friend gives {a} {n} {o}.", "{a} gets a gift of {n} {o}."),
)

TEMPLATES: tuple[Template, ...] = (
    Template(
        "sum2",
        (
            "How many {o} do {a} and {b} have together?",
            "How many {o} do {a} and {b} have in total?",
            "What is the total number of {o} of {a} and {b}?",
        ),
        (_has("{a}"), _has("{b}")),
    ),
    Template(
        "sum3",
        (
            "How many {o} do {a}, {b} and {c} have together?",
            "How many {o} do {a}, {b} and {c} have in total?",
            "What is the total number of {o} of {a}, {b} and {c}?",
        ),
        (_has("{a}"), _has("{b}"), _has("{c}")),
    ),
    Template(
        "difference",
        (
            "How many more {o} does {a} have than {b}?",
            "{a} has how many more {o} than {b}?",
            "How many fewer {o} does {b} have than {a}?",
        ),
        (_has("{a}"), Slot(-1, _has("{b}").ask, _has("{b}").facts)),
    ),
    Template(
        "buy",
        (
            "How many {o} does {a} have after shopping?",
            "After shopping, how many {o} does {a} have?",
            "What number of {o} does {a} have after shopping?",
        ),
        (_has("{a}"), _BUYS),
    ),
    Template(
        "lose",
        (
            "How many {o} does {a} have after losing some?",
            "After losing some, how many {o} does {a} have?",
            "What number of {o} does {a} have after losing some?",
        ),
        (_has("{a}"), _LOSES),
    ),
    Template(
        "buy_lose",
        (
            "How many {o} does {a} have after shopping and losing some?",
            "After shopping and losing some, how many {o} does {a} have?",
            "What number of {o} does {a} have after shopping and losing some?",
        ),
        (_has("{a}"), _BUYS, _LOSES),
    ),
    Template(
        "buy_gift_lose",
        (
            "How many {o} does {a} have after shopping, a gift and losing some?",
            "After shopping, a gift and losing some, how many {o} does {a} have?",
            "What number of {o} does {a} have after shopping, a gift and losing some?",
        ),
        (_has("{a}"), _BUYS, _GIFT, _LOSES),
    ),
    Template(
        "find_eat",
        (
            "How many {o} does {a} have after the walk and the snack?",
            "After the walk and the snack, how many {o} does {a} have?",
        ),
        (
            _has("{a}"),
            Slot(
                +1,
                "How many {o} does {a} find?",
                ("{a} finds {n} {o}.", "{a} finds {n} {o} on the walk."),
            ),
            Slot(
                -1,
                "How many {o} does {a} eat?",
                ("{a} eats {n} {o}.", "{a} eats {n} {o} as a snack."),
            ),
        ),
        held_out=True,
    ),
    Template(
        "boxes",
        (
            "How many {o} are in the red box and the blue box together?",
            "How many {o} do the red box and the blue box hold in total?",
        ),
        (
            Slot(
                +1,
                "How many {o} are in the red box?",
                ("The red box holds {n} {o}.", "There are {n} {o} in the red box."),
            ),
            Slot(
                +1,
                "How many {o} are in the blue box?",
                ("The blue box holds {n} {o}.", "There are {n} {o} in the blue box."),
            ),
        ),
        held_out=True,
    ),
    Template(
        "share",
        (
            "How many {o} does {a} have after sharing with {b}?",
            "After sharing with {b}, how many {o} does {a} have?",
        ),
        (
            _has("{a}"),
            Slot(
                -1,
                "How many {o} does {a} give to {b}?",
                ("{a} gives {n} {o} to {b}.", "{b} gets {n} {o} from {a}."),
            ),
        ),
        held_out=True,
    ),
)


@dataclass(frozen=True, slots=True)
class WorldProblem:
    """A drawn problem in words; `words` holds its names and its object."""

    template: Template
    numbers: tuple[int, ...]
    question: str
    facts: tuple[str, ...]
    asks: tuple[str, ...]
    words: Mapping[str, str]

    @property
    def answer(self) -> int:
        signs = (slot.sign for slot in self.template.slots)
        return sum(s * n for s, n in zip(signs, self.numbers, strict=True))

    @property
    def solution(self) -> str:
        return chain(self.template, self.numbers)


def chain(template: Template, numbers: Sequence[int]) -> str:
    """A worked solution: "3 + 4 = 7. 7 - 2 = 5. The answer is 5."."""
    steps, total = [], numbers[0]
    for slot, number in zip(template.slots[1:], numbers[1:], strict=True):
        result = total + slot.sign * number
        steps.append(f"{total} {'+' if slot.sign > 0 else '-'} {number} = {result}.")
        total = result
    return " ".join([*steps, f"The answer is {total}."])


def split_of(template: Template, numbers: Sequence[int]) -> Split:
    """The one split that these numbers belong to: 70 % train, 15 % dev, 15 % test."""
    key = f"{template.name}:{','.join(map(str, numbers))}"
    bucket = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) % 100
    return "train" if bucket < 70 else "dev" if bucket < 85 else "test"


def draw_numbers(template: Template, split: Split, rng: random.Random) -> tuple[int, ...]:
    """Numbers of one problem: the first 2 to 12, others 2 to 9, no partial sum negative."""
    wanted = "test" if split == "transfer" else split
    while True:
        numbers = (rng.randint(2, 12), *(rng.randint(2, 9) for _ in template.slots[1:]))
        totals = list(_partial_sums(template, numbers))
        if min(totals) >= 0 and split_of(template, numbers) == wanted:
            return numbers


def _partial_sums(template: Template, numbers: Sequence[int]) -> Iterator[int]:
    total = 0
    for slot, number in zip(template.slots, numbers, strict=True):
        total += slot.sign * number
        yield total


def draw_problem(
    template: Template,
    split: Split,
    rng: random.Random,
    *,
    every_wording: bool = False,
    words: Mapping[str, str] | None = None,
) -> WorldProblem:
    """Numbers, names, an object and wordings for one template.

    words: names and object of another problem, to go on talking about the same things.
    every_wording: also the held-out ones (pre-training). A `transfer` problem uses held-out
    wordings alone, unless its whole template is held out, where all are new.
    """

    def wording(options: tuple[str, ...]) -> str:
        if every_wording or template.held_out:
            return rng.choice(options)
        return options[-1] if split == "transfer" else rng.choice(options[:-1])

    numbers = draw_numbers(template, split, rng)
    if words is None:
        words = dict(zip("abc", rng.sample(NAMES, 3), strict=True)) | {"o": rng.choice(OBJECTS)}
    return WorldProblem(
        template=template,
        numbers=numbers,
        question=wording(template.questions).format(**words),
        facts=tuple(
            wording(slot.facts).format(n=number, **words)
            for slot, number in zip(template.slots, numbers, strict=True)
        ),
        asks=tuple(slot.ask.format(**words) for slot in template.slots),
        words=words,
    )


def templates_of(split: Split) -> tuple[Template, ...]:
    """Trained templates; for `transfer` the held-out ones and new wordings of the trained."""
    if split == "transfer":
        return TEMPLATES
    return tuple(t for t in TEMPLATES if not t.held_out)


def world_problems(split: str, count: int, seed: int = 0) -> Iterator[Problem]:
    """`count` problems of a split, templates in turn; equal arguments give equal problems."""
    if split not in SPLITS:
        raise DataError(
            f"split: expected one of the built-in world's, {', '.join(SPLITS)}, found {split!r}"
        )
    chosen = cast("Split", split)
    templates = templates_of(chosen)
    for index in range(count):
        rng = random.Random(f"world/{split}/{seed}/{index}")
        drawn = draw_problem(templates[index % len(templates)], chosen, rng)
        yield to_problem(drawn, f"world-{split}-{seed}-{index}", rng)


def to_problem(drawn: WorldProblem, problem_id: str, rng: random.Random) -> Problem:
    """The drawn problem as a record; shard 0 is the question, whatever the order of the text."""
    shards = (
        Shard(0, drawn.question, is_question=True),
        *(Shard(i, fact) for i, fact in enumerate(drawn.facts, start=1)),
    )
    return Problem(
        problem_id=problem_id,
        task="math",
        question=arrange(shards, question_first=rng.random() < 0.5),
        answer=str(drawn.answer),
        solution=drawn.solution,
        shards=shards,
        source=problem_id,
        columns={"template": drawn.template.name, "asks": drawn.asks},
    )


def arrange(shards: Sequence[Shard], *, question_first: bool) -> str:
    """Shards as one text. Both orders must occur for q and q* alike, or order tells the kind."""
    ordered = sorted(shards, key=lambda s: s.is_question == (not question_first))
    return " ".join(s.text for s in ordered)


def world_prompts(
    problems: Sequence[Problem],
    *,
    seed: int = 0,
    max_removed: int | None = None,
    mid_conversation: float = 0.0,
) -> Iterator[Prompt]:
    """For each problem a complete prompt and an underspecified one.

    max_removed: q* lacks one to this many facts, uniformly (None: one to all).
    mid_conversation: share of prompts, of both kinds, that start after some turns in which the
        right questions were asked and answered.
    Certificates hold by construction: the question names every slot.
    """
    for problem in problems:
        rng = random.Random(f"prompts/{seed}/{problem.problem_id}")
        facts = [s for s in problem.shards if not s.is_question]
        limit = len(facts) if max_removed is None else min(max_removed, len(facts))
        dropped = {s.shard_id for s in rng.sample(facts, rng.randint(1, limit))}
        for missing in (set(), dropped):
            given_later = []
            kept = [s for s in facts if s.shard_id not in missing]
            if kept and rng.random() < mid_conversation:
                given_later = rng.sample(kept, rng.randint(1, len(kept)))
            yield _prompt(problem, missing, given_later, rng)


def _prompt(
    problem: Problem, missing: set[int], given_later: list[Shard], rng: random.Random
) -> Prompt:
    removed = tuple(s for s in problem.shards if s.shard_id in missing)
    held_back = {s.shard_id for s in given_later}
    opening = [s for s in problem.shards if s.shard_id not in missing | held_back]
    messages = [Message("user", arrange(opening, question_first=rng.random() < 0.5))]
    for shard in given_later:
        messages.append(Message("assistant", problem.columns["asks"][shard.shard_id - 1]))
        messages.append(Message("user", shard.text))
    intent = Intent.UNDERSPECIFIED if removed else Intent.COMPLETE
    return Prompt(
        prompt_id=f"{problem.problem_id}/{intent}",
        problem_id=problem.problem_id,
        task=problem.task,
        intent=intent,
        messages=tuple(messages),
        answer=problem.answer,
        shards=problem.shards,
        removed=removed,
        certificate=Certificate(
            "numbers" if removed else "none",
            out_of_reach="; ".join(f"{s.text!r} holds a number of the sum" for s in removed),
            incomplete="the question names every fact" if removed else "",
        ),
        solution=problem.solution,
        source=problem.source,
        columns=problem.columns,
    )
