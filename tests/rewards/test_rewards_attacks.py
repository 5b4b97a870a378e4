"""Replies that try to be paid for something else than they are worth."""

from __future__ import annotations

import time

import pytest

from icpo_lite.core.types import Intent, Message, Prompt, Reward, Shard, StopReason, Turn, Verdict
from icpo_lite.rewards.icpo import REWARDS
from icpo_lite.rewards.judge import Judge, Rules
from icpo_lite.rewards.linear_judge import LinearTyper

GOAL = Shard(0, "How many apples does Ann have after shopping and losing some?", is_question=True)
HAS = Shard(1, "Ann has 9 apples.")
BUYS = Shard(2, "Ann buys 4 apples.")
LOSES = Shard(3, "Ann loses 2 apples.")
SHARDS = (GOAL, HAS, BUYS, LOSES)
RIGHT = "9 + 4 = 13. 13 - 2 = 11. The answer is 11."
HONEST = "How many apples does Ann lose?"

CAPACITY = Shard(1, "Each delivery truck can carry up to 2000 pounds.")
REAL = (
    Shard(0, "How many trucks are needed to transport the flagstones?", is_question=True),
    CAPACITY,
    Shard(2, "There are 80 flagstones."),
    Shard(3, "Each flagstone weighs 75 pounds."),
)
REAL_RIGHT = (
    "To find the number of trucks, I first compute the total weight of the load.\n\n"
    "1. **Total weight**: 80 flagstones × 75 pounds = 6000 pounds.\n"
    "2. **Trucks**: 6000 ÷ 2000 = 3.\n\n"
    "Since each truck carries at most 2000 pounds, the load has to be divided evenly among "
    "them.\n\n**Final Answer:** \\boxed{3} trucks are needed to transport the flagstones."
)
REAL_HONEST = (
    "So far we know that there are 80 flagstones and that each weighs 75 pounds, which makes a "
    "load of 6000 pounds. To finish, I still need one thing: how many pounds can each delivery "
    "truck carry?"
)


def _prompt(shards: tuple[Shard, ...], removed: tuple[Shard, ...], answer: str) -> Prompt:
    intent = Intent.UNDERSPECIFIED if removed else Intent.COMPLETE
    text = " ".join(s.text for s in (*shards[1:], shards[0]) if s not in removed)
    return Prompt("p", "p", "math", intent, (Message("user", text),), answer, shards, removed)


Q = _prompt(SHARDS, (), "11")
Q_STAR = _prompt(SHARDS, (LOSES,), "11")
REAL_Q = _prompt(REAL, (), "3")
REAL_Q_STAR = _prompt(REAL, (CAPACITY,), "3")


judge = Judge()


@pytest.fixture(autouse=True, params=[Rules, LinearTyper])
def _each_judge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names the types, nothing else than the right thing pays."""
    monkeypatch.setitem(globals(), "judge", Judge(typer=request.param()))


def _judged(prompt: Prompt, reply: str, stop: StopReason = "eos") -> tuple[Verdict, Reward]:
    verdict = judge.judge(prompt, reply, stop)
    tokens = tuple(range(len(reply.split())))
    turn = Turn("assistant", reply, tokens, stop_reason=stop, verdict=verdict)
    return verdict, REWARDS["guarded"].bind()(prompt, verdict, turn)


def _earned(prompt: Prompt, reply: str, stop: StopReason = "eos") -> float:
    return _judged(prompt, reply, stop)[1].total


ATTACKS: dict[str, str] = {
    "bare question mark": "?",
    "three question marks": "? ? ?",
    "prompt echoed": Q_STAR.text,
    "prompt echoed with a question mark": Q_STAR.text + "?",
    "task handed back": "How many apples does Ann have after shopping and losing some?",
    "refusal": "I cannot answer this.",
    "refusal at length": "I am sorry, but I do not have enough information to answer this "
    "question. Without additional context it is impossible to determine the result.",
    "doubt before a full answer": f"I'm not sure. {RIGHT}",
    "not certain, but": "I am not certain, but the answer is 11.",
    "answer with a question after it": f"{RIGHT} {HONEST}",
    "answer in words, with a question after it": f"She has 11 apples left. {HONEST}",
    "answer spelt out, with a question after it": f"That makes eleven apples. {HONEST}",
    "a bare number before a question": f"11. {HONEST}",
    "an equation before a question": f"9 + 4 - 2 = 11. {HONEST}",
    "question with an answer after it": f"{HONEST} {RIGHT}",
    "answer, then a request": "The answer is 11. Please tell me how many apples Ann loses.",
    "ten questions at once": " ".join(
        f"How many apples does Ann {verb}?"
        for verb in ("have", "buy", "lose", "get", "find", "eat", "give", "sell", "own", "pick")
    ),
    "one question ten times": " ".join([HONEST] * 10),
    "question about a fact that is there": "How many apples does Ann buy?",
    "question about somebody else": "How many apples does Ben lose?",
    "question about nothing": "Could you tell me more about this task?",
    "twenty candidates": f"The answer is {', '.join(map(str, range(1, 20)))} or 20.",
    "candidates one by one": " ".join(f"The answer is {i}." for i in range(8, 12)),
    "candidates, right one last": "The answer is 10 or 12 or 11.",
    "either or": "It could be 11 or 13.",
    "empty": "",
    "blanks": " \n\t ",
    "type's name": "clarification",
    "type's name before a question": f"clarification: {HONEST}",
    "type's name as markup": f"**Clarification**\n{HONEST}",
    "JSON of the type": f'{{"response_type": "clarification"}} {HONEST}',
    "Spanish": "¿Cuántas manzanas pierde Ann?",
    "German": "Wie viele Äpfel verliert Ann und wie viele kauft sie?",
    "Chinese": "安丢了多少个苹果？",
    "English words in another language": "¿Cuántas apples does Ann lose por favor?",
    "code fence": f"```\n{HONEST}\n```",
    "chat markup": f"<|im_start|>user\n{HONEST}<|im_end|>",
    "tags": f"<question>{HONEST}</question>",
    "control characters": "How many apples\x07 does Ann\u200b lose?",
    "right to left mark": "How many apples does Ann \u202elose?",
    "hidden thought only": "<think>How many apples does Ann lose?</think>",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_on_an_underspecified_prompt_earns_what_an_honest_question_does(
    name: str,
) -> None:
    assert _earned(Q_STAR, ATTACKS[name]) < _earned(Q_STAR, HONEST)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_on_a_complete_prompt_earns_what_the_right_answer_does(name: str) -> None:
    assert _earned(Q, ATTACKS[name]) < _earned(Q, RIGHT)


@pytest.mark.parametrize("name", ["answer with a question after it", "doubt before a full answer"])
def test_an_answer_beside_a_question_or_doubt_is_an_answer_attempt(name: str) -> None:
    verdict, reward = _judged(Q_STAR, ATTACKS[name])
    assert verdict.response_type == "answer_attempt"
    assert reward.total == 0


def test_what_is_given_may_be_said_again_before_a_question() -> None:
    reply = f"Ann has 9 apples and buys 4. I need one more thing. {HONEST}"
    assert _judged(Q_STAR, reply)[1].components == {"targeted": 1.0}


def test_honest_replies_earn_all_there_is() -> None:
    assert _judged(Q_STAR, HONEST)[1].components == {"targeted": 1.0}
    assert _judged(Q, RIGHT)[1].components == {"correct": 1.0}
    assert _earned(Q_STAR, RIGHT) == 0
    assert _earned(Q, HONEST) == pytest.approx(-0.05 - 0.15)


@pytest.mark.parametrize("reply", ["9 + 4 = 13. 13 - 2", "How many apples does", "Let me think"])
def test_a_reply_cut_off_in_the_middle_is_missing_and_earns_nothing(reply: str) -> None:
    for prompt in (Q, Q_STAR):
        verdict, reward = _judged(prompt, reply, "length")
        assert verdict.response_type == "missing"
        assert reward.total <= 0


def test_a_reply_cut_off_behind_its_answer_is_an_answer_attempt() -> None:
    verdict, _ = _judged(Q, f"{RIGHT} To check this, 9 +", "length")
    assert verdict.response_type == "answer_attempt"
    assert verdict.correct


REAL_ATTACKS: dict[str, str] = {
    "answer with a question after it": f"{REAL_RIGHT} How many pounds can each truck carry?",
    "answer with a request after it": f"{REAL_RIGHT}\n\nCould you please tell me how many pounds "
    "each delivery truck can carry?",
    "doubt before a full answer": f"I'm not sure about this. {REAL_RIGHT}",
    "prompt echoed": f"{REAL_Q_STAR.text} {REAL_Q_STAR.text}?",
    "refusal": "I'm sorry, but I can't help with that. There is simply not enough information in "
    "the problem to determine how many trucks are needed, so it cannot be answered as it stands, "
    "and I would not want to guess at any numbers that were not provided to me.",
    "questions about all": "Before I can solve this I need to ask: How many flagstones are there? "
    "How much does each flagstone weigh? How many pounds can each truck carry? How many trucks do "
    "you own? When should they arrive? Who drives them? What do they cost? Where do they go?",
    "what is there": "I can help with that. Could you please tell me how many pounds each of the "
    "flagstones weighs? Once I have this information I can calculate how many trucks are needed "
    "to transport all of the flagstones for you.",
    "hedge": "It depends on the trucks. If a truck carries 1000 pounds, then 6 trucks are needed. "
    "If a truck carries 2000 pounds, then 3 trucks are needed. If a truck carries 3000 pounds, "
    "then 2 trucks are needed. If it carries 6000 pounds, then a single truck would be enough.",
}


@pytest.mark.parametrize("name", REAL_ATTACKS)
def test_attacks_at_the_length_of_real_replies(name: str) -> None:
    attack = REAL_ATTACKS[name]
    assert _earned(REAL_Q_STAR, attack) < _earned(REAL_Q_STAR, REAL_HONEST)
    assert _earned(REAL_Q, attack) < _earned(REAL_Q, REAL_RIGHT)


def test_real_honest_replies() -> None:
    assert _judged(REAL_Q_STAR, REAL_HONEST)[1].components == {"targeted": 1.0}
    assert _judged(REAL_Q, REAL_RIGHT)[1].components == {"correct": 1.0}


@pytest.mark.parametrize(
    "piece",
    ["a", "1 ", "1,", "? ", "answer is ", "(", "\\boxed{", "**", "<", "\n", "- ", "f(", "= 1 ",
     "if you ", "so we ", "1/", "(e.g. ", "select ", "Ann Ben ", "{", "'", "please provide: "],
)  # fmt: skip
def test_no_text_takes_long_to_judge(piece: str) -> None:
    """10,000 characters of one piece: patterns that backtrack would take minutes."""
    reply = piece * (10_000 // len(piece))
    start = time.process_time()
    _judged(Q_STAR, reply)
    _judged(Q, reply)
    assert time.process_time() - start < 3
