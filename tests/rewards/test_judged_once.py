"""Equal replies to one prompt are judged once, and every one has the verdict of its own."""

from dataclasses import replace

from icpo_lite.core.types import Intent, Message, Prompt, Shard
from icpo_lite.rewards.judge import Judge, Rules

SHARDS = (Shard(0, "How many are left?", True), Shard(1, "Ann has 7 apples."))
PROMPT = Prompt(
    "p",
    "p",
    "math",
    Intent.UNDERSPECIFIED,
    (Message("user", "Ann eats 3. How many are left?"),),
    "4",
    shards=SHARDS,
    removed=SHARDS[1:],
)


class Counting(Rules):
    def __init__(self):
        self.seen = []

    def types(self, items):
        self.seen += [(prompt.prompt_id, reply) for prompt, reply, _ in items]
        return super().types(items)


def test_runs_that_say_the_same_are_judged_once():
    typer = Counting()
    replies = ["The answer is 4.", "How many apples does Ann have?", "The answer is 5."] * 3
    items = [(replace(PROMPT, prompt_id=f"p/run{i}"), r, "eos") for i, r in enumerate(replies)]
    found = Judge(typer=typer).judge_many(items)
    assert len(typer.seen) == 3
    assert found == [Judge().judge(*item) for item in items]
    assert [v.correct for v in found] == [True, None, False] * 3


def test_what_differs_in_anything_else_is_judged_by_itself():
    typer = Counting()
    complete = replace(PROMPT, removed=())
    others = [
        replace(PROMPT, answer="5"),
        complete,
        replace(PROMPT, messages=(Message("user", "How many are left?"),)),
        replace(PROMPT, columns={"asks": []}),
        replace(PROMPT, targets=("apples",)),
    ]
    items = [(p, "How many apples does Ann have?", "eos") for p in (PROMPT, *others)]
    items += [(PROMPT, "How many apples does Ann have?", "length"), (PROMPT, "4", "eos")]
    found = Judge(typer=typer).judge_many(items)
    assert len(typer.seen) == len(items) - 1  # what was cut off is typed by nobody
    assert found == [Judge().judge(*item) for item in items]
    assert (found[0].targeted, found[2].targeted) == (True, None)


def test_who_asks_a_model_sees_every_reply():
    class Served:
        seen = 0

        def types(self, items):
            self.seen += len(items)
            return Rules().types(items)

    typer = Served()
    Judge(typer=typer).judge_many([(PROMPT, "The answer is 4.", "eos")] * 3)
    assert typer.seen == 3
