"""What a reply asks the user for, and whether that is what the prompt lacks.

A question is *targeted* when it asks for a removed fact; it *repeats* when it asks for one that is
there to read; and when it asks what the problem asks, it only hands the task back. In word problems
the learned judge says what is targeted (`learned_targets`), everywhere else and for the rest the
rules do (`rule_targets`). tests/claims/question_targets.py measures both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from icpo_lite.core.types import Prompt, Shard
from icpo_lite.rewards import languages, learned_targets
from icpo_lite.rewards.courtesies import closes, is_courtesy
from icpo_lite.rewards.fact_reading import read_frame
from icpo_lite.rewards.features import strip_markup
from icpo_lite.rewards.gap_questions import gap_points_at
from icpo_lite.rewards.rule_targets import points_at
from icpo_lite.rewards.subject_keys import keys
from icpo_lite.rewards.target_features import read_statements

_WORD = re.compile(r"[A-Za-z][A-Za-z']*")
_PARENTHESIS = re.compile(r"\((?:e\.g\.|for example|i\.e\.|such as)[^()]{0,300}\)", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+(.*)$")
_REQUEST = re.compile(
    r"\b(?:please|kindly)\s+(?:\w+\s+)?(?:provide|share|tell|specify|clarify|give|supply|state"
    r"|confirm|let me (?:know|have)|fill in|quantify|add (?:the|that|how|what)"
    r"|put an? (?:number|figure|value))\b"
    r"|\b(?:could|can|would) you (?:please |also |kindly )*(?:provide|share|tell|specify|clarify"
    r"|give|supply|state|confirm|let me know)\b"
    r"|\b(?:could|can|would) you (?:please )?be (?:a (?:bit|little) )?more (?:precise|specific"
    r"|exact|explicit|clear) (?:about|on|as to)\b"
    r"|\b(?:may|might|can|could) i (?:please )?(?:just )?(?:ask|know|have|get|see|trouble you "
    r"for)\b"
    r"|\b(?:i|we)(?:'d| would)? (?:really |just |also |first |still )?(?:have|need|want|like|love)"
    r" to (?:know|hear|learn|see|be told|find out|understand|have|get)\b(?! (?:if|that) )"
    r"|\bit(?:'d| would) help(?: (?:me|us))?(?: (?:a lot|greatly))? (?:to (?:have|know|see|hear)"
    r"|if (?:i|we) (?:knew|had))\b"
    r"|\bi(?:'m| am) (?:still |only |just )*(?:after|missing|lacking|short of|unsure about"
    r"|not sure (?:about|of|how|what))\b"
    r"|\bwould you mind (?:please )?(?:telling|letting|sharing|saying|giving|specifying"
    r"|providing)\b"
    r"|\b(?:i|we)(?:'d| would) want (?:the|his|her|its|their)\b"
    r"|\btell me (?:the|how|what|which|who|when|where|whether|about)\b"
    r"|\blet me know (?:the|how|what|which|who|when|where|whether)\b"
    r"|\b(?:i|we)(?:'ll|'d| would| will)?(?: still| also| just| only)* (?:need|require|must know)\b"
    r"(?! to (?:calculate|find|determine|add|subtract|multiply|divide|use|follow|compute))",
    re.IGNORECASE,
)
_OFFER = re.compile(
    r"\b(?:if|once) you (?:can |could )?(?:provide|share|tell|give|specify|let me know)\b",
    re.IGNORECASE,
)
_LEAD_IN = re.compile(
    r"^\W*(?:(?:hey|hi|hello|ok|okay|alright|all right|great|sure|sorry|thanks|oh|hmm?|wait|well|so"
    r"|and|but|also|right|first|quick question"
    r"|just to (?:check|confirm|clarify|be (?:sure|clear))"
    r"|(?:just )?one (?:more |last )?(?:thing|question))"
    r"(?: there)?\s*[,:!.;—–-]+\s*)+",
    re.IGNORECASE,
)
_TO_DO = re.compile(
    r"^\W*(?:now,? |so,? |but )?(?:in order )?to \w+[^,?]{0,120},\s*", re.IGNORECASE
)
_SO_THAT = re.compile(
    r"[,;]?\s*\b(?:so (?:that )?(?:we|i)\b|and (?:then )?(?:i'll|i will|i can|we can)\b"
    r"|(?<=, )(?:then )?(?:i|we) (?:can|could|will|would)\b"
    r"|(?:in order )?to (?:calculate|find|determine|compute|finish|solve|answer|proceed)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_LEADS_LIST = re.compile(r":\s*$")
#: A point behind "Mrs" or "e.g" ends nothing.
_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMrs\.)(?<!\be\.g\.)"
    r"(?<!\bi\.e\.)(?<!\bvs\.)[\"')*]*\s+|\n+"
)


@lru_cache(maxsize=16384)
def asked(reply: str) -> tuple[str, ...]:
    """The things a reply asks the user for, one text each, in order.

    Sentences with a question mark, requests without one ("please tell me the price"), and the
    items of a list that a request leads in; what a request is for ("… so that I can add them") is
    cut off. Courtesies ("does this make sense?") are none; offers ("once you tell me the price, I
    can …") count where nothing else asks.
    """
    reply = strip_markup(reply)
    if languages.speaks_another(reply):
        return tuple(languages.questions(tuple(_SENTENCE.split(reply))))
    if not ("?" in reply or _REQUEST.search(reply) or _OFFER.search(reply)):
        return ()
    units: list[str] = []
    offers: list[str] = []
    listing = -1
    for line in _PARENTHESIS.sub(" ", reply).split("\n"):
        item = _ITEM.match(line)
        if item is not None and listing >= 0:
            if listing and units:
                units.pop()
            listing = 0
            units.append(item[1].strip())
            continue
        if line.strip():
            listing = -1
        before = ""
        for sentence in _SENTENCE.split(line):
            before, told = sentence, before
            if _asks(sentence):
                units.append(_in_context(_core(sentence), told))
                listing = 1 if _LEADS_LIST.search(sentence.rstrip(" *")) else -1
            elif match := _OFFER.search(sentence):
                offers.append(_core(sentence[match.start() :]))
    units, offers = _short(units), _short(offers)
    about = [unit for unit in units if keys(unit)] or units or offers
    return _distinct([unit for unit in about if _WORD.search(unit)])


#: Questions of a reply that are looked at, from its end, and characters of one at each end.
_MOST_QUESTIONS, _MOST_CHARACTERS = 30, 400


def _short(units: list[str]) -> list[str]:
    """The last questions of a reply, the middle of a very long one left out."""
    return [
        unit
        if len(unit) <= 2 * _MOST_CHARACTERS
        else f"{unit[:_MOST_CHARACTERS]} {unit[-_MOST_CHARACTERS:]}"
        for unit in units[-_MOST_QUESTIONS:]
    ]


def _asks(sentence: str) -> bool:
    asks = "?" in sentence or _REQUEST.search(sentence)
    return bool(asks) and not (is_courtesy(sentence) or closes(sentence))


def _core(sentence: str) -> str:
    """A question without greetings and the clause that says what it is for, on either side."""
    sentence = _LEAD_IN.sub("", sentence)
    request = _REQUEST.search(sentence)
    core = sentence[request.start() :] if request else _TO_DO.sub("", sentence)
    shorter = _SO_THAT.sub("", core)
    return (shorter if keys(shorter) else core).strip()


#: What points back: "those two scores", "the other one", "by how many"; not "one more thing".
_POINTS_BACK = re.compile(
    r"\b(?:th(?:at|is|ose|ese|em|e two|e first|e second|e former|e latter|e other)|it|they|he"
    r"|she|by how (?:many|much)|each|ones?(?! (?:more|last|final|thing|detail|piece|bit|point)))\b",
    re.IGNORECASE,
)
#: A question of so few keys of its own may be about what was said before it.
_FEW = 2


def _in_context(question: str, told: str) -> str:
    """A question that points back, behind the statement before it: "Al has less. By how much?"."""
    points_back = len(keys(question)) <= _FEW and _POINTS_BACK.search(question)
    if not (points_back and keys(told)) or "?" in told or len(told) > _MOST_CHARACTERS:
        return question
    return f"{told.strip()} {question}"


def _distinct(units: list[str]) -> tuple[str, ...]:
    """Without questions that say no more than a later one ("I need the price. What is it?")."""
    kept: list[str] = []
    for unit in reversed(units):
        about = keys(unit)
        if not any(about <= keys(other) for other in kept):
            kept = [other for other in kept if not keys(other) <= about]
            kept.append(unit)
    return tuple(reversed(kept))


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a reply's questions point. hits, repeats, echoes: how many of `count` do so."""

    count: int
    hits: int
    repeats: int
    echoes: int


def aim(prompt: Prompt, reply: str) -> Aim:
    """How many of a reply's questions ask for a removed fact, a given fact, the task itself."""
    worded = tuple(Shard(-1 - i, text) for i, text in enumerate(prompt.targets))
    units = asked(reply)
    if _is_learned(prompt) and not languages.speaks_another(reply):
        ends = reply[-2 * _MOST_CHARACTERS :]
        return _learned_aim(prompt.removed, prompt.shards, prompt.text, units, ends)
    return _aim((*prompt.removed, *worded), prompt.shards, prompt.text, units)


def _is_learned(prompt: Prompt) -> bool:
    """Whether the learned judge has seen such prompts: word problems that lack a fact or two.

    The built-in world names the question of each of its facts; the rules read these exactly.
    """
    return (
        prompt.task == "math"
        and 0 < len(prompt.removed) <= learned_targets.MOST_REMOVED
        and not prompt.targets
        and "asks" not in prompt.columns
        and any(s.is_question for s in prompt.shards)
        and not languages.speaks_another(prompt.text)
    )


@lru_cache(maxsize=16384)
def _learned_aim(
    removed: tuple[Shard, ...],
    shards: tuple[Shard, ...],
    prompt_text: str,
    units: tuple[str, ...],
    ends: str,
) -> Aim:
    problem = read_statements(removed, shards, prompt_text)
    given = [s for s in shards if s not in removed]

    points = Counter(
        gap_points_at(u, removed, given) or learned_targets.points_at(u, ends, prompt_text, problem)
        for u in units
    )
    return Aim(len(units), points["removed"], points["given"], points["goal"])


@lru_cache(maxsize=16384)
def _aim(
    removed: tuple[Shard, ...], shards: tuple[Shard, ...], prompt_text: str, units: tuple[str, ...]
) -> Aim:
    frame = read_frame(removed, shards, prompt_text)
    gone = {shard.shard_id for shard in removed}
    given = [s for s in shards if s.shard_id not in gone]
    points = Counter(gap_points_at(u, removed, given) or points_at(u, frame) for u in units)
    return Aim(len(units), points["removed"], points["given"], points["goal"])


def asked_for(reply: str, open_shards: Sequence[Shard], shards: Sequence[Shard]) -> int | None:
    """Which open shard a reply's questions ask for first, by index; None for none of them.

    open_shards: those not said yet. shards: all of the problem, among which the closest counts.
    """
    for unit in asked(reply):
        for i, shard in enumerate(open_shards):
            if _aim((shard,), tuple(shards), "", (unit,)).hits:
                return i
    return None
