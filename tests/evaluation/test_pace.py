"""Replies are kept as they come, so that little is made twice; how long the rest takes."""

import json
from dataclasses import dataclass, field

import pytest

from icpo_lite.core.types import Message, Problem, Shard, Turn
from icpo_lite.evaluation import pace, resume
from icpo_lite.evaluation.pace import KeptTalker, Pace, most_replies
from icpo_lite.evaluation.resume import Progress
from icpo_lite.evaluation.runner import evaluate
from icpo_lite.rewards.judge import Judge

SHARDS = tuple(Shard(i, f"fact {i}") for i in range(3))
PROBLEMS = [Problem(f"p{i}", "math", "How many?", "1", shards=SHARDS) for i in range(5)]


@dataclass
class Counting:
    """Replies that tell how often somebody was asked."""

    asked: list = field(default_factory=list)
    fails_at: int = 1 << 30

    def reply(self, chats, keys):
        if len(self.asked) >= self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(len(chats))
        return [Turn("assistant", f"to {k}", (1, 2), (-0.1, -1 / 3), "eos") for k in keys]


def talk(tmp_path, inner, chats, at_once=4):
    progress = Progress(tmp_path / "kept.jsonl", "identity")
    told = []
    kept = KeptTalker(inner, progress, Pace("m", len(chats), told.append), at_once)
    return kept.reply(chats, [("s", i) for i in range(len(chats))]), kept.pace


def chats(count):
    return [[Message("user", f"chat {i}")] for i in range(count)]


def test_an_interrupted_batch_alone_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "WRITE_EVERY_S", 0.0)
    whole, _ = talk(tmp_path / "whole", Counting(), chats(10))
    cut = Counting(fails_at=2)
    with pytest.raises(KeyboardInterrupt):
        talk(tmp_path / "cut", cut, chats(10))
    assert cut.asked == [4, 4]
    again = Counting()
    turns, counted = talk(tmp_path / "cut", again, chats(10))
    assert again.asked == [2]
    assert turns == whole
    assert (counted.done, counted.before) == (10, 8)


def test_a_kept_reply_is_of_the_same_chat(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "WRITE_EVERY_S", 0.0)
    talk(tmp_path, Counting(), chats(3))
    other, inner = [*chats(2), [Message("user", "another")]], Counting()
    talk(tmp_path, inner, other)
    assert inner.asked == [3]


def test_replies_wait_for_others_before_they_are_written(tmp_path):
    talk(tmp_path, Counting(), chats(9))
    lines = (tmp_path / "kept.jsonl").read_text().splitlines()
    assert lines == [json.dumps({"identity": "identity"})]


def test_time_left_goes_by_what_was_made_now(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    told = []
    counted = Pace("run", 100, told.append)
    counted.count(40, kept=True)
    assert told == []
    clock[0] = 30.0
    counted.count(20)
    assert told == ["run: 60 of at most 100 replies, 1:00 left at most"]
    counted.count(20)
    assert len(told) == 1


def test_replies_at_most():
    assert most_replies(PROBLEMS, ["full", "concat"], 2) == 20
    assert most_replies(PROBLEMS, ["sharded"], 2) == 30
    assert most_replies(PROBLEMS, ["sharded", "recap"], 2) == 40
    assert most_replies(PROBLEMS, ["recap", "sharded"], 2) == 40
    assert most_replies(PROBLEMS, ["recap"], 1) == 20
    assert most_replies(PROBLEMS, ["sharded", "snowball", "underspecified"], 1) == 35


def test_only_conversations_that_go_on_are_remembered():
    """FULL is one reply; SHARDED is not, and RECAP's last turn goes on from SHARDED's."""
    heard = []

    @dataclass
    class Remembering:
        remembers: bool = True

        def once(self):
            return Remembering(remembers=False)

        def reply(self, chats, keys):
            heard.append((keys[0][0], self.remembers))
            return [Turn("assistant", "How many?", (1,), (-0.1,), "eos") for _ in keys]

    for settings, max_turns in ((["full"], None), (["sharded", "recap"], None), (["sharded"], 1)):
        evaluate(
            "m",
            Remembering(),
            Judge(),
            PROBLEMS,
            choose=lambda text, left, shards: 0,
            settings=settings,
            runs=2,
            seed=0,
            max_turns=max_turns,
        )
    assert heard[0] == ("full", False)
    assert {kept for _, kept in heard[1:-1]} == {True}
    assert "recap" in {name for name, _ in heard}
    assert heard[-1] == ("sharded", False)
