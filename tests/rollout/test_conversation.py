"""The conversation loop, replayed with scripted assistants whose scores are known by hand."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from icpo_lite.core.types import Problem, ResponseType, Shard, Turn, Verdict
from icpo_lite.evaluation.runner import evaluate
from icpo_lite.evaluation.settings import SETTINGS, certified_prompt
from icpo_lite.rewards.judge import Judge
from icpo_lite.rollout.conversation import converse, last_words
from icpo_lite.rollout.simulated_user import (
    ModelUser,
    Moment,
    keeps_facts,
    recap_text,
    snowball_text,
)

DATA = Path(__file__).parents[3] / "shared" / "data"

PROBLEM = Problem(
    problem_id="p",
    task="math",
    question="Ann has 3 apples. Ann buys 4 apples. How many apples does Ann have now?",
    answer="7",
    shards=(
        Shard(0, "How many apples does Ann have now?", is_question=True),
        Shard(1, "Ann has 3 apples."),
        Shard(2, "Ann buys 4 apples."),
    ),
)


class Script:
    """Says its lines in order, the same in every conversation."""

    def __init__(self, *lines):
        self.lines, self.chats = lines, []

    def reply(self, chats, keys):
        self.chats.append([[m.content for m in chat] for chat in chats])
        said = [sum(m.role == "assistant" for m in chat) for chat in chats]
        return [Turn("assistant", self.lines[n], stop_reason="eos") for n in said]


class ByNumber:
    """A reply that is a number is an attempt, one with a question mark asks."""

    def judge_many(self, items):
        return [self.verdict(prompt, reply) for prompt, reply, _ in items]

    def verdict(self, prompt, reply):
        if reply.isdigit():
            return Verdict(ResponseType.ANSWER_ATTEMPT, correct=reply == prompt.answer)
        return Verdict(ResponseType.CLARIFICATION)


def by_word(reply, still_open, shards):
    return next((i for i, s in enumerate(still_open) if "buy" in reply and "buys" in s.text), None)


def play(name, *lines):
    setting = SETTINGS[name]
    script = Script(*lines)
    (talk,) = converse(
        [setting.open(PROBLEM, 0)],
        script,
        ByNumber(),
        choose=by_word,
        say=setting.say,
        seed=0,
        setting=name,
        max_turns=setting.max_turns,
    )
    return talk, script


def test_full_is_one_turn():
    talk, script = play("full", "7")
    assert (talk.score, len(talk.replies), talk.lucky) == (1.0, 1, False)
    assert script.chats == [[[PROBLEM.question]]]


def test_full_wrong_and_asking_score_nothing():
    assert play("full", "8")[0].score == 0.0
    assert play("full", "How many does she buy?")[0].score == 0.0


def test_concat_lists_every_shard():
    _, script = play("concat", "7")
    assert all(f"- {s.text}" in script.chats[0][0][0] for s in PROBLEM.shards)


def test_sharded_never_answered():
    talk, _script = play("sharded", "What?", "What?", "What?")
    assert (talk.score, len(talk.replies)) == (0.0, 3)
    assert [t.content for t in talk.turns if t.role == "user"] == [s.text for s in PROBLEM.shards]


def test_sharded_right_then_stopped_is_lucky_when_a_shard_was_open():
    talk, _ = play("sharded", "5", "7", "9")
    assert (talk.score, len(talk.replies), talk.lucky) == (1.0, 2, True)


def test_sharded_right_at_the_end_is_not_lucky():
    talk, _ = play("sharded", "What?", "5", "7")
    assert (talk.score, len(talk.replies), talk.lucky) == (1.0, 3, False)


def test_sharded_wrong_to_the_end():
    assert play("sharded", "1", "2", "3")[0].score == 0.0


def test_last_attempt_counts_not_the_last_turn():
    talk, _ = play("sharded", "1", "2", "What?")
    assert (talk.score, len(talk.replies)) == (0.0, 3)


def test_user_gives_the_shard_that_was_asked_for():
    talk, _ = play("sharded", "How many does she buy?", "And have?", "7")
    assert [t.content for t in talk.turns if t.role == "user"] == [
        "How many apples does Ann have now?",
        "Ann buys 4 apples.",
        "Ann has 3 apples.",
    ]


def test_clean_history_judges_the_last_turn_alone():
    talk, script = play("clean_history", "unused", "unused", "7")
    assert talk.score == 1.0
    assert script.chats[0][0][-1] == "Ann buys 4 apples."
    assert len(script.chats) == 1


def test_underspecified_is_one_turn_that_lacks_a_fact():
    talk, script = play("underspecified", "What?")
    assert len(talk.replies) == 1
    text = script.chats[0][0][0]
    assert PROBLEM.shards[0].text in text
    assert any(s.text not in text for s in PROBLEM.shards[1:])


def test_judge_sees_what_is_still_missing():
    seen = []

    class Watch(ByNumber):
        def verdict(self, prompt, reply):
            seen.append([s.shard_id for s in prompt.removed])
            return super().verdict(prompt, reply)

    setting = SETTINGS["sharded"]
    converse(
        [setting.open(PROBLEM, 0)],
        Script("1", "2", "3"),
        Watch(),
        choose=by_word,
        say=setting.say,
        seed=0,
        setting="sharded",
    )
    assert seen == [[1, 2], [2], []]


def replay(*lines, settings=("full", "concat", "sharded", "recap", "snowball"), problem=None):
    """Scores of one instruction in each setting, by the evaluation's own path."""
    result = evaluate(
        "scripted",
        Script(*lines),
        ByNumber(),
        [problem or PROBLEM],
        choose=by_word,
        settings=settings,
        runs=1,
        seed=0,
    )
    rows = {name: rows[0] for name, rows in result.rows.items()}
    return {name: row["score"] for name, row in rows.items()}, rows, result.summary


@pytest.mark.parametrize(
    ("lines", "scores"),
    [
        # Never answered: asked to the end, and after the recap once more.
        (["What?"] * 4, {"full": 0, "concat": 0, "sharded": 0, "recap": 0, "snowball": 0}),
        # Right at once, then stopped: RECAP goes on after it and its own wrong answer counts.
        (["7", "8"], {"full": 1, "concat": 1, "sharded": 1, "recap": 0, "snowball": 1}),
        # Wrong to the end; the turn after the recap is right.
        (["1", "2", "3", "7"], {"full": 0, "concat": 0, "sharded": 0, "recap": 1, "snowball": 0}),
        # Asked for a shard, then right on the last one.
        (
            ["How many does she buy?", "5", "7", "7"],
            {"full": 0, "concat": 0, "sharded": 1, "recap": 1, "snowball": 1},
        ),
        # Right answer taken back is never heard: the conversation had stopped.
        (["5", "7", "9"], {"full": 0, "concat": 0, "sharded": 1, "recap": 0, "snowball": 1}),
        # A question after the recap is no answer, whatever was right before.
        (
            ["What?", "7", "Sure?"],
            {"full": 0, "concat": 0, "sharded": 1, "recap": 0, "snowball": 1},
        ),
    ],
)
def test_replayed_turns_score_as_computed_by_hand(lines, scores):
    assert replay(*lines)[0] == scores


def test_recap_goes_on_with_the_sharded_conversation_and_says_everything():
    _, rows, _ = replay("1", "2", "3", "7")
    sharded, recap = rows["sharded"]["turns"], rows["recap"]["turns"]
    assert recap[: len(sharded)] == sharded
    said = recap[len(sharded)]
    assert (said["role"], said["content"]) == ("user", recap_text(PROBLEM.shards))
    assert not rows["recap"]["lucky"]


def test_recap_alone_samples_the_same_conversation():
    both, alone = replay("1", "2", "3", "7")[1], replay("1", "2", "3", "7", settings=["recap"])[1]
    assert list(alone) == ["recap"]
    assert alone["recap"] == both["recap"]


def test_recap_after_an_early_stop_tells_what_was_still_open():
    setting = SETTINGS["sharded"]
    options = {"seed": 0, "setting": "sharded"}
    opened = [setting.open(PROBLEM, 0)]
    script, referee = Script("7", "7"), ByNumber()
    done = converse(opened, script, referee, choose=by_word, say=setting.say, **options)
    assert done[0].lucky
    (talk,) = last_words(
        done, script, referee, text=SETTINGS["recap"].closing, seed=0, setting="recap"
    )
    assert (talk.score, talk.lucky, talk.open_shards) == (1.0, False, ())


def test_snowball_repeats_all_earlier_shards():
    _, rows, _ = replay("How many does she buy?", "5", "6", settings=["snowball"])
    question, have, buy = PROBLEM.shards
    assert [t["content"] for t in rows["snowball"]["turns"] if t["role"] == "user"] == [
        question.text,
        snowball_text([question], buy),
        snowball_text([question, buy], have),
    ]


def test_turn_cap_ends_a_conversation():
    setting = SETTINGS["sharded"]
    (talk,) = converse(
        [setting.open(PROBLEM, 0)],
        Script("1", "2", "7"),
        ByNumber(),
        choose=by_word,
        say=setting.say,
        seed=0,
        setting="sharded",
        max_turns=2,
    )
    assert (len(talk.replies), talk.score) == (2, 0.0)


# ------------------------------------------------------------------------------------- model user


class Says:
    """A generator that gives its replies in turn and keeps what it was asked."""

    def __init__(self, *replies):
        self.replies, self.calls = replies, []

    def generate(self, chats, *, n=1, max_new_tokens=256, temperature=1.0, seed=0):
        self.calls.append([chat[0].content for chat in chats])
        return [[self.replies[len(self.calls) - 1]] for _ in chats]


def test_model_user_rewords_picks_and_falls_back_to_the_shard():
    generator = Says('{"fact": 2, "message": "oh, and Ann buys 4 apples"}', "no idea")
    user = ModelUser(generator, by_word)
    setting = SETTINGS["sharded"]
    (talk,) = converse(
        [setting.open(PROBLEM, 0)],
        Script("What?", "What?", "What?"),
        ByNumber(),
        choose=by_word,
        say=setting.say,
        seed=0,
        setting="sharded",
        user=user,
    )
    assert [t.content for t in talk.turns if t.role == "user"] == [
        "How many apples does Ann have now?",
        "oh, and Ann buys 4 apples",
        "Ann has 3 apples.",
    ]
    assert (user.asked, user.verbatim) == (2, 1)
    assert "1. Ann has 3 apples.\n2. Ann buys 4 apples." in generator.calls[0][0]
    assert "assistant: What?" in generator.calls[0][0]


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("she buys four apples, Ann does", True),
        ("Ann buys 5 apples", False),
        ("Ann buys apples", False),
        ("Ben buys 4 apples", False),
        ("Ann buys 4 apples and 2 pears", False),
        ("How about 4 apples that Ann buys?", False),
        ("4 things for Ann", False),
        ("", False),
    ],
)
def test_a_message_keeps_numbers_names_and_words(message, kept):
    assert keeps_facts("Ann buys 4 apples.", message) is kept


def test_a_message_that_tells_another_shard_too_is_not_said():
    open_shards = (Shard(1, "Ann has apples in a red box."), Shard(2, "Ann got them from Ben."))
    moment = Moment((Turn("assistant", "What?"),), open_shards, open_shards)
    told = '{"fact": 1, "message": "Ann has apples in a red box that she got from Ben"}'
    assert ModelUser(Says(told), by_word).next_shards([moment]) == [open_shards[0]]


# -------------------------------------------------------------------- underspecified corpora

MARKED = Problem(
    "gsm",
    "math",
    "A box holds 6 rows of 8 eggs. Ann buys 3 boxes. How many eggs has Ann bought?",
    "144",
    "A box holds 6*8=<<6*8=48>>48 eggs.\nAnn has 3*48=<<3*48=144>>144.\n#### 144",
)


def test_underspecified_corpus_prompts_are_certified():
    from icpo_lite.data.value_shards import shard_problem

    problem = shard_problem(MARKED)
    drawn = [certified_prompt(problem, run) for run in range(4)]
    assert all(p and p.certificate.level == "marks" for p in drawn)
    assert len({p.text for p in drawn}) > 1
    talk = SETTINGS["underspecified"].open(problem, 0)
    assert talk.certified
    assert {s.shard_id for s in talk.open_shards} == {s.shard_id for s in drawn[0].removed}


def test_what_nothing_certifies_is_said_to_be_uncertified():
    # No sum or product of its numbers is its answer: nothing says that they are needed.
    problem = replace(PROBLEM, answer="1000")
    assert not SETTINGS["underspecified"].open(problem, 0).certified
    _, rows, summary = replay("What?", settings=["underspecified"], problem=problem)
    assert rows["underspecified"]["certified"] is False
    assert summary["certified"] == {"instructions": 0, "of": 1}


# ----------------------------------------------------------------------------------- real answers


@pytest.mark.skipif(
    not (DATA / "lic_math_answers_dev.jsonl").is_file(), reason="real answers are not at hand"
)
def test_real_answers_score_in_an_evaluation_as_the_grader_scores_them():
    """The grader's figure (>= 95 % of 525 answers as LiC scored them) by the evaluation's path."""
    gold = [json.loads(line) for line in (DATA / "gsm8k_test.jsonl").open()]
    rows = [json.loads(line) for line in (DATA / "lic_math_answers_dev.jsonl").open()]
    rows = [r for r in rows if r.get("score") is not None and re.search(r"\d", r["exact_answer"])]
    problems = [
        Problem(
            f"{i}", "math", gold[n]["question"], gold[n]["answer"].rpartition("####")[2].strip()
        )
        for i, n in enumerate(int(r["task_id"].split("-")[-1]) for r in rows)
    ]

    class Recorded:
        def reply(self, chats, keys):
            return [Turn("assistant", rows[int(key[2])]["assistant"]) for key in keys]

    result = evaluate(
        "recorded", Recorded(), Judge(), problems, choose=by_word, settings=["full"], runs=1, seed=0
    )
    scored = [
        row["score"] == row2["score"] for row, row2 in zip(result.rows["full"], rows, strict=True)
    ]
    assert len(scored) == 525
    assert sum(scored) / len(scored) >= 0.95
