"""Which of the seven types a reply is, by rules: local, deterministic, no model.

Hard evidence comes first: nothing said, a call or a query or a code block where the task wants
one, a short reply that states its answer. What is left is long prose, which `scorecard` weighs by
its cues (`cues.py`). The types are those of Lost in Conversation (arXiv 2505.06120).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from icpo_lite.rewards import cues
from icpo_lite.rewards.asking import asked
from icpo_lite.rewards.cues import CUES, Reading
from icpo_lite.rewards.scorecard import ANSWERS, KINDS
from icpo_lite.types import ResponseType, Shard, StopReason, TaskName

#: Up to this many words a reply is read sentence by sentence; cues weigh longer ones.
SHORT = 40
#: This many different answers in one reply are a hedge, however they are worded.
MANY_ANSWERS = 3


@dataclass(frozen=True, slots=True)
class Classification:
    """A type and the words or the rule that decided it.

    committed: whether the reply commits to an answer, also where a question stands beside it.
    closed: whether a call, query or code block that answers is written to its end.
    """

    response_type: ResponseType
    evidence: str
    committed: bool = False
    closed: bool = False


def classify(
    response: str,
    *,
    task: TaskName = "math",
    shards: Sequence[Shard] | None = None,
    stop_reason: StopReason | None = None,
) -> ResponseType:
    """The response type of an assistant turn by rules; `explain` gives the evidence as well.

    shards: of the problem, where they are known; a reply that only repeats them answers nothing.
    stop_reason: "length" for a reply that was cut off.
    """
    return explain(response, task=task, shards=shards, stop_reason=stop_reason).response_type


def explain(
    response: str,
    *,
    task: TaskName = "math",
    shards: Sequence[Shard] | None = None,
    stop_reason: StopReason | None = None,
) -> Classification:
    """The type of an assistant turn by rules, with its evidence."""
    found = _BY_TASK[task](response)
    if stop_reason == "length" and not _complete_answer(response, found):
        return Classification(ResponseType.MISSING, "cut off before an answer or a whole question")
    if shards and found.committed and _repeats(response, tuple(shards)):
        return Classification(ResponseType.DISCUSSION, "repeats the prompt word for word")
    return found


_STATED_WHOLE = re.compile(
    r"\banswer\b\W*(?:is\b)?[^\n.?!]{0,40}\d|\\boxed\s*\{[^}]*\d[^}]*\}|####\s*\S*\d", re.I
)


def _complete_answer(response: str, found: Classification) -> bool:
    """Whether a reply that was cut off had given its answer: a step towards it is none."""
    if not found.committed or found.response_type is not ResponseType.ANSWER_ATTEMPT:
        return False
    return found.closed or bool(_STATED_WHOLE.search(response))


def _repeats(response: str, shards: tuple[Shard, ...]) -> bool:
    """Whether every sentence of a reply is a shard, word for word."""
    known = {cues.flatten(s.text.lower()).strip() for s in shards}
    said = {cues.flatten(s).strip() for s in cues.read(response).sentences}
    return bool(said) and said <= known


_SAYS_SOMETHING = re.compile(r"[^\W_]")
_NOTHING = re.compile(r"\W*(?:none|null|n/?a|\[\s*\]|\{\s*\})\W*", re.IGNORECASE)


def _nothing(response: str) -> Classification | None:
    if not _SAYS_SOMETHING.search(response) or _NOTHING.fullmatch(response):
        return Classification(ResponseType.MISSING, "nothing is said")
    return None


# ------------------------------------------------------------------------------------------ math

_VALUE = r"[-−]?\s?(?:[$€£]\s?)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?"
_STATES = re.compile(
    rf"(?:\banswer\b(?: is|:| =|\s*\)?:)?\s*(?:\W|is\b|about|approximately|exactly|equals)*{_VALUE}"
    rf"|\\boxed\s*\{{[^}}]*\d|####\s*\S*\d|=\s*[$€£]?\s*{_VALUE})",
    re.IGNORECASE,
)
_CANDIDATE = re.compile(
    rf"(?:\banswer\b\D{{0,20}}?|\bor\s+|,\s*|\bmaybe\s+)({_VALUE})", re.IGNORECASE
)
_EITHER = re.compile(
    rf"{_VALUE}\D{{0,12}}\bor\b\D{{0,12}}{_VALUE}|\b(?:could|might|may) be {_VALUE}"
    rf"|\bif\b[^.?!]*\bthen\b|\b(?:assuming|suppose|depends)\b",
    re.IGNORECASE,
)
_HAS_NUMBER = re.compile(r"\d")


def _math(response: str) -> Classification:
    return _nothing(response) or _math_said(response)


@lru_cache(maxsize=16384)
def _math_said(response: str) -> Classification:
    reading = cues.read(response)
    if not reading.flat.strip():
        return Classification(ResponseType.MISSING, "nothing is said outside of hidden thought")
    return _short_math(response, reading) if reading.words <= SHORT else _long(response, reading)


def _short_math(response: str, reading: Reading) -> Classification:
    statements = [s for s in reading.sentences if "?" not in s]
    stated = next((m for s in reversed(statements) if (m := _STATES.search(s))), None)
    told = " ".join(statements)
    hedged = _EITHER.search(told) if "or" in told or "b" in told or "if" in told else None
    if _candidates(told) >= MANY_ANSWERS:
        return Classification(ResponseType.HEDGING, "several candidate answers", committed=True)
    if stated and not (hedged and not _STATES.search(statements[-1])):
        return Classification(ResponseType.ANSWER_ATTEMPT, stated[0].strip(), committed=True)
    if hedged and _HAS_NUMBER.search(told):
        return Classification(ResponseType.HEDGING, hedged[0], committed=True)
    questions = asked(response)
    if questions:
        several = len(questions) > 1
        kind = ResponseType.INTERROGATION if several else ResponseType.CLARIFICATION
        return Classification(kind, questions[0])
    return _short_told(reading, told)


def _candidates(told: str) -> int:
    return len({m[1] for m in _CANDIDATE.finditer(told)})


def _short_told(reading: Reading, told: str) -> Classification:
    gives_up = cues.found(CUES["lack"], reading.flat) + cues.found(CUES["apology"], reading.flat)
    if gives_up and not reading.text.strip().endswith("?"):
        return Classification(ResponseType.REFUSAL, gives_up[0])
    if _HAS_NUMBER.search(told):
        return Classification(ResponseType.ANSWER_ATTEMPT, told[-80:], committed=True)
    return Classification(ResponseType.DISCUSSION, "neither an answer nor a question")


def _long(response: str, reading: Reading) -> Classification:
    features = cues.features(reading)
    score = ANSWERS.score(features)
    if score > 0:
        why = ANSWERS.strongest(features, sign=1)
        return Classification(
            ResponseType.ANSWER_ATTEMPT, f"{why} (score {score:+.1f})", committed=True
        )
    kind = max(KINDS, key=lambda k: KINDS[k].score(features))
    return Classification(kind, f"{KINDS[kind].strongest(features, sign=1)} (score {score:+.1f})")


# --------------------------------------------------------------------- actions, code and database

_CALL = re.compile(r"\b[A-Za-z_]\w*(?:\.\w+)*\(\s*(?:\)|[A-Za-z_]\w*\s*=|['\"\d\[{-])")
_JSON_CALL = re.compile(
    r"['\"](?:name|func_name|function|function_name)['\"]\s*:\s*['\"][\w.]+['\"]", re.IGNORECASE
)
_OPEN_ARGUMENT = re.compile(r"=\s*(?:\?|''|\"\"|<[^>]*>|\.\.\.)\s*[,)]")
_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE = re.compile(r"^\s*(?:def|class|import|from|return)\s+\w", re.MULTILINE)
_SQL = re.compile(r"\b(?:select|with)\b[\s\S]{1,2000}?\bfrom\b|\bselect\s+[\w(*]", re.IGNORECASE)


def _actions(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    call = _CALL.search(response) or _JSON_CALL.search(response)
    if call:
        reading = cues.read(response)
        asks = asked(response) if reading.words > 12 else ()
        if _OPEN_ARGUMENT.search(response) and (asks or reading.words > 12):
            return Classification(ResponseType.CLARIFICATION, "a call with an argument left open")
        return Classification(
            ResponseType.ANSWER_ATTEMPT, call[0], committed=True, closed=")" in response
        )
    return _prose(response)


def _code(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    fenced = _FENCE.search(response)
    code = _CODE.search(fenced[1] if fenced else response)
    if code or (fenced and len(fenced[1].strip()) > 20):
        closed = response.count("```") % 2 == 0 and "```" in response
        return Classification(ResponseType.ANSWER_ATTEMPT, "code", committed=True, closed=closed)
    return _prose(response)


def _database(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    query = _SQL.search(response)
    if query and ("```" in response or query.start() == 0 or ";" in response):
        return Classification(
            ResponseType.ANSWER_ATTEMPT, query[0][:60], committed=True, closed=";" in response
        )
    return _prose(response)


def _prose(response: str) -> Classification:
    """A reply without the thing its task wants: it asks, gives up, or talks."""
    reading = cues.read(response)
    questions = asked(response)
    if len(questions) > 1:
        return Classification(ResponseType.INTERROGATION, questions[0])
    if questions:
        return Classification(ResponseType.CLARIFICATION, questions[0])
    if reading.words <= 2 * SHORT:
        return Classification(ResponseType.REFUSAL, "nothing done and nothing asked")
    return Classification(ResponseType.DISCUSSION, "talk without a result")


_BY_TASK = {"math": _math, "actions": _actions, "code": _code, "database": _database}
