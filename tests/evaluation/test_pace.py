"""Replies are kept as they come, so that little is made twice; how long the rest takes."""

import json
import os
import signal
import threading
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


def test_a_small_evaluation_tells_its_time_too(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    told = []

    class Slow(Counting):
        def reply(self, chats, keys):
            clock[0] += 2.0
            return super().reply(chats, keys)

    how = {"choose": lambda text, left, shards: 0, "settings": ["full"], "runs": 1, "seed": 0}
    evaluate("m", Slow(), Judge(), PROBLEMS, kept_at_once=1, tell=told.append, **how)
    assert told == ["m: 3 of at most 5 replies, 0:04 left at most"]


def test_replies_of_a_finished_portion_are_not_written_as_well(tmp_path, monkeypatch):
    """Its lines hold them; replies of a portion that another thread plays still wait."""
    progress = Progress(tmp_path / "kept.jsonl", "identity")
    keys = [("s", 0)]
    turns = Counting().reply(chats(1), keys)
    other = threading.Thread(target=progress.add_replies, args=(chats(2)[1:], keys, turns))
    other.start()
    other.join()
    progress.add_replies(chats(1), keys, turns)
    progress.add("full/0", {"full": []})
    monkeypatch.setattr(resume, "WRITE_EVERY_S", 0.0)
    progress.add_replies(chats(3)[2:], keys, turns)
    again = Progress(tmp_path / "kept.jsonl", "identity")
    found = [again.replies([chat], keys) for chat in chats(3)]
    assert found == [None, turns, turns]


def test_killed_within_an_evaluation_nothing_is_made_twice(tmp_path, monkeypatch):
    """kill -9 while replies of the second setting are made; other portions are played beside."""
    monkeypatch.setattr(resume, "WRITE_EVERY_S", 0.0)
    how = {"choose": lambda text, left, shards: 0, "runs": 2, "seed": 0, "at_once": 4}
    how |= {"settings": ["full", "sharded"], "kept_at_once": 2}

    class Noting:
        """Writes the key of each reply before it gives it."""

        def __init__(self, file, killed_at=1 << 30):
            self.file, self.left = file, killed_at

        def reply(self, chats, keys):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            with self.file.open("a") as file:
                file.writelines(f"{key}\n" for key in keys)
            return [Turn("assistant", f"to {k}", (1, 2), (-0.1, -1 / 3), "eos") for k in keys]

    def judged(talker, folder):
        progress = Progress(folder / "kept.jsonl", "identity")
        return evaluate("m", talker, Judge(), PROBLEMS, progress=progress, **how)

    whole = judged(Noting(tmp_path / "whole"), tmp_path / "a")
    wanted = (tmp_path / "whole").read_text().splitlines()
    child = os.fork()
    if child == 0:
        judged(Noting(tmp_path / "made", killed_at=9), tmp_path / "b")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    before = len((tmp_path / "made").read_text().splitlines())
    assert 10 < before < len(wanted)
    assert judged(Noting(tmp_path / "made"), tmp_path / "b") == whole
    assert sorted((tmp_path / "made").read_text().splitlines()) == sorted(wanted)


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
