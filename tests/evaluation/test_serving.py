"""Cures that train nothing: what a model reads in place of the conversation."""

from dataclasses import replace

import pytest

from icpo_lite.core.errors import UsageError
from icpo_lite.core.types import Message, Problem, Turn
from icpo_lite.evaluation.request import evaluation_request
from icpo_lite.evaluation.serving import (
    SERVED,
    Mediator,
    require_servable,
    serving,
    told_of,
)

CHAT = (
    Message("system", "Be brief."),
    Message("user", "How many pears has Ann?"),
    Message("assistant", "7."),
    Message("user", "Ann buys 3 pears."),
    Message("assistant", "10."),
    Message("user", "Ann had 2."),
)
FIRST = CHAT[:2]


class Talker:
    """Says what it is told to, and remembers what it read."""

    def __init__(self, *texts):
        self.texts, self.read, self.keys = list(texts), [], []

    def reply(self, chats, keys):
        self.read += [tuple(chat) for chat in chats]
        self.keys += list(keys)
        return [Turn("assistant", self.texts.pop(0) if self.texts else "5.") for _ in chats]


def read(serve_as, *chats):
    talker = Talker()
    serving(talker, serve_as).reply(chats, [("s", 0, i) for i in range(len(chats))])
    return talker.read


@pytest.mark.parametrize("serve_as", SERVED)
def test_a_first_turn_is_read_as_it_is(serve_as):
    assert read(serve_as, FIRST) == [FIRST]


def test_each_form_of_a_longer_chat():
    assert read("plain", CHAT) == [CHAT]
    said = "How many pears has Ann? Ann buys 3 pears. Ann had 2."
    assert read("cleaned", CHAT) == [(CHAT[0], Message("user", said))]
    recap = (
        "To recap, here is everything you need:\n"
        "- How many pears has Ann?\n- Ann buys 3 pears.\n- Ann had 2."
    )
    assert read("recap", CHAT) == [(*CHAT[:5], Message("user", recap))]
    (snow,) = read("snowball", CHAT)
    assert snow[:3] == CHAT[:3]
    assert snow[3].content == "So far:\n- How many pears has Ann?\nNow also:\n- Ann buys 3 pears."
    assert snow[5].content == (
        "So far:\n- How many pears has Ann?\n- Ann buys 3 pears.\nNow also:\n- Ann had 2."
    )


def test_a_mediator_writes_the_request_that_is_answered():
    request = "Ann had 2 pears and buys 3. How many pears has she now?"
    talker = Talker(request, "5.")
    made = Mediator(talker)
    (turn,) = made.reply([CHAT], [("sharded", 0, "p", 2, 1)])
    assert turn.content == "5."
    asked, answered = talker.read
    assert [m.role for m in asked] == ["user"]
    assert all(m.content in asked[0].content for m in CHAT if m.role == "user")
    assert answered == (CHAT[0], Message("user", request))
    assert talker.keys == [("sharded", 0, "p", 2, "mediator", 1), ("sharded", 0, "p", 2, 1)]
    assert told_of(made).startswith("the mediator's own words stood in 1 of 1 turns")


@pytest.mark.parametrize("request_", ["Ann had 4 pears and buys 3.", "Ann buys 3.", "", "  \n"])
def test_a_mediator_that_changes_a_number_is_not_heard(request_):
    talker = Talker(request_, "5.")
    made = Mediator(talker)
    made.reply([CHAT, FIRST], [(0, 0), (0, 1)])
    said = "How many pears has Ann? Ann buys 3 pears. Ann had 2."
    assert talker.read[1] == (CHAT[0], Message("user", said))
    assert talker.read[2] == FIRST
    assert (made.rewritten, made.verbatim) == (0, 1)


def test_what_cannot_be_served_so_is_told():
    problem = Problem("p", "math", "q", "1", source="a.jsonl:3")
    require_servable([problem], "cleaned")
    led = replace(problem, opening=(Message("system", "s"), Message("user", "before")))
    require_servable([led], "plain")
    with pytest.raises(UsageError, match=r"--serve-as recap: .*a\.jsonl:3"):
        require_servable([led], "recap")
    with pytest.raises(UsageError, match="serve_as: expected one of plain, cleaned"):
        evaluation_request(serve_as="clean")
    assert evaluation_request(serve_as="cleaned").serve_as == "cleaned"
