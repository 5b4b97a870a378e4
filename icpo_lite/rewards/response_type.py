"""Which of the seven types a reply is, by rules: local, deterministic, no model.

What is typed is what the reply says outside of its thought (`core.thoughts`). Hard evidence comes
first: nothing said, a call or a query or a code block where the task wants one, an answer that is
boxed, marked, or the result of the working before it, where the reply neither asks nor supposes.
What is left is long prose, which `feature_weights` weighs by its cues (`features.py`). Other
languages are read by the phrases of `languages.py`. The types are those of Lost in Conversation
(arXiv 2505.06120).

The tables: written by hand and tried on lic_turn_types_dev.jsonl, so figures on that file are of
data that the author has seen; a model held out is judged in `icpo_lite.tools.train_judge`.
tests/claims/tables.json has what each is worth alone: on 164 rows of it `_UNSETTLED` and
`_HAS_NUMBER` are worth 1.2 points of the seven types, most others nothing alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from icpo_lite.core.foreign_numbers import foreign_numbers
from icpo_lite.core.plain_text import spoken
from icpo_lite.core.thoughts import parted
from icpo_lite.core.types import ResponseType, Shard, StopReason, TaskName
from icpo_lite.rewards import feature_weights, features, languages
from icpo_lite.rewards.features import CUES, Reading
from icpo_lite.rewards.graders.call_formats import is_marked, parse_calls
from icpo_lite.rewards.graders.extraction import stated
from icpo_lite.rewards.graders.reply_code import extract_code
from icpo_lite.rewards.graders.written_numbers import in_words
from icpo_lite.rewards.open_replies import type_of_open
from icpo_lite.rewards.question_targets import asked
from icpo_lite.rewards.settled_answers import (
    MANY_ANSWERS,
    TWO_CASES,
    VALUE,
    candidates,
    cases_of,
    settled,
)

#: Up to this many words a reply is read sentence by sentence; cues weigh longer ones.
SHORT = 40
#: This many question marks in a long reply are no single question, whatever else it says.
MANY_QUESTIONS = 5


@dataclass(frozen=True, slots=True)
class Classification:
    """A type and the words or the rule that decided it.

    committed: whether the reply commits to an answer, also where a question stands beside it.
    closed: whether a call, query or code block that answers is written to its end. weighed: whether
    no hard evidence decided, but the weight of many cues; then a learned judge may know better.
    """

    response_type: ResponseType
    evidence: str
    committed: bool = False
    closed: bool = False
    weighed: bool = False


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
    response, unfinished = spoken(response), parted(response).unfinished
    if unfinished and (stop_reason == "length" or is_nothing(response)):
        return Classification(ResponseType.MISSING, "ends inside its thought")
    if stop_reason == "length" and is_cut_off(response, task):
        return Classification(ResponseType.MISSING, "cut off before an answer or a whole question")
    found = _BY_TASK[task](response)
    if shards and found.committed and _repeats(response, tuple(shards)):
        return Classification(ResponseType.DISCUSSION, "repeats the prompt word for word")
    return found


_STATED_WHOLE = re.compile(
    r"\banswer\b\W*(?:is\b)?[^\n.?!]{0,40}\d|\\boxed\s*\{[^}]*\d[^}]*\}|####\s*\S*\d",
    re.IGNORECASE,
)


def is_cut_off(response: str, task: TaskName) -> bool:
    """Whether a reply that ended at the length limit had not yet given its answer.

    A step towards an answer is none, and half a question is no question.
    """
    if parted(response).unfinished:
        return True
    response = spoken(response)
    if task == "math":
        return not _STATED_WHOLE.search(response)
    return not _BY_TASK[task](response).closed


def is_nothing(response: str) -> bool:
    """Whether a reply says no letter or digit outside of its thought, or a word for nothing."""
    response = spoken(response)
    return not _SAYS_SOMETHING.search(response) or bool(_NOTHING.fullmatch(response))


def _repeats(response: str, shards: tuple[Shard, ...]) -> bool:
    """Whether every sentence of a reply is a shard, word for word."""
    known = {features.flatten(s.text.lower()).strip() for s in shards}
    said = {features.flatten(s).strip() for s in features.read(response).sentences}
    return bool(said) and said <= known


_SAYS_SOMETHING = re.compile(r"[^\W_]")
_NOTHING = re.compile(r"\W*(?:none|null|n/?a|\[\s*\]|\{\s*\})\W*", re.IGNORECASE)


def _nothing(response: str) -> Classification | None:
    if is_nothing(response):
        return Classification(ResponseType.MISSING, "nothing is said")
    return None


# ------------------------------------------------------------------------------------------ math

_STATES = re.compile(
    rf"(?:\banswer\b(?: is|:| =|\s*\)?:)?\s*(?:\W|is\b|about|approximately|exactly|equals)*{VALUE}"
    rf"|\\boxed\s*\{{[^}}]*\d|####\s*\S*\d|=\s*[$€£]?\s*{VALUE})",
    re.IGNORECASE,
)
_ANSWER_WORDS = re.compile(rf"\banswer\b\W*(?:is\b)?\W*{VALUE}|\\boxed\s*\{{[^}}]*\d|####\s*\S*\d")
_EITHER = re.compile(
    rf"{VALUE}\D{{0,12}}\bor\b\D{{0,12}}{VALUE}|\b(?:could|might|may) be {VALUE}"
    rf"|\bif\b[^.?!]*\bthen\b|\b(?:assuming|suppose|depends)\b",
    re.IGNORECASE,
)
_HAS_NUMBER = re.compile(r"\d")


def _math(response: str) -> Classification:
    return _nothing(response) or _math_said(response)


@lru_cache(maxsize=16384)
def _math_said(response: str) -> Classification:
    reading = features.read(response)
    if not reading.flat.strip():
        return Classification(ResponseType.MISSING, "nothing is said outside of hidden thought")
    if languages.speaks_another(response):
        return _in_another_language(response, reading)
    found = _short_math(response, reading) if reading.words <= SHORT else _long(reading)
    if found.response_type is ResponseType.ANSWER_ATTEMPT or not (words := settled(response)):
        return found
    return Classification(ResponseType.ANSWER_ATTEMPT, words, committed=True)


def _in_another_language(response: str, reading: Reading) -> Classification:
    """The type of a reply by the phrases of its language: what it asks, lacks, supposes, states."""
    asking = languages.questions(reading.sentences)
    told = tuple(
        s for s in reading.sentences if s not in asking and not languages.found("courtesy", s)
    )
    text = " ".join(told)
    answer = stated(" \n".join(told))
    supposed = languages.found("suppose", told[-1] if told else "")
    if answer and answer.how in ("box", "marked", "confirmed") and not supposed:
        return Classification(ResponseType.ANSWER_ATTEMPT, answer.text, committed=True)
    if languages.found("suppose", text) and _HAS_NUMBER.search(text) and not asking:
        return Classification(
            ResponseType.HEDGING, languages.found("suppose", text), committed=True
        )
    if asking:
        several = len(asking) > 1
        kind = ResponseType.INTERROGATION if several else ResponseType.CLARIFICATION
        return Classification(kind, asking[0])
    if lacks := languages.found("lack", text):
        return Classification(ResponseType.REFUSAL, lacks)
    tells = told and (_HAS_NUMBER.search(told[-1]) or foreign_numbers(told[-1], foreign=True))
    if answer and tells:
        return Classification(ResponseType.ANSWER_ATTEMPT, answer.text, committed=True)
    return Classification(ResponseType.DISCUSSION, "neither an answer nor a question")


def _short_math(response: str, reading: Reading) -> Classification:
    statements = [s for s in reading.sentences if "?" not in s]
    stated_in = next((m for s in reversed(statements) if (m := _STATES.search(s))), None)
    told = " ".join(statements)
    hedged = _EITHER.search(told)
    if candidates(told) >= MANY_ANSWERS:
        return Classification(ResponseType.HEDGING, "several candidate answers", committed=True)
    if cases := TWO_CASES.search(told):
        return Classification(ResponseType.HEDGING, cases[0][:80], committed=True)
    if stated_in and not (hedged and not _STATES.search(statements[-1])):
        return Classification(ResponseType.ANSWER_ATTEMPT, stated_in[0].strip(), committed=True)
    if hedged and _HAS_NUMBER.search(told):
        return Classification(ResponseType.HEDGING, hedged[0], committed=True)
    questions = asked(response)
    if questions:
        several = len(questions) > 1
        kind = ResponseType.INTERROGATION if several else ResponseType.CLARIFICATION
        return Classification(kind, questions[0], weighed=_asks_in_passing(response, reading))
    return _short_told(reading, told)


#: Up to this many words a request is the whole reply, with a question mark or without.
_BRIEF = 20


def _asks_in_passing(response: str, reading: Reading) -> bool:
    """Whether a reply of some length asks without a question mark ("I would need the price")."""
    return reading.words > _BRIEF and "?" not in response and not _TO_USER.search(reading.text)


#: A request that opens a sentence or a clause, and no "please" in passing.
_TO_USER = re.compile(
    r"(?:^|[.,:;!]\s+)(?:could|can|would) you (?:please |kindly )?(?:tell|provide|specify|clarify"
    r"|share|give|state|confirm)\b(?! me if)",
    re.MULTILINE,
)


def _short_told(reading: Reading, told: str) -> Classification:
    gives_up = features.found(CUES["lack"], reading.flat) + features.found(
        CUES["apology"], reading.flat
    )
    if gives_up and not reading.text.strip().endswith("?"):
        return Classification(ResponseType.REFUSAL, gives_up[0])
    if _HAS_NUMBER.search(told) or any(word[0].amount != 1 for word in in_words(told)):
        return Classification(ResponseType.ANSWER_ATTEMPT, told[-80:], committed=True)
    return Classification(ResponseType.DISCUSSION, "neither an answer nor a question")


def _long(reading: Reading) -> Classification:
    if cases := cases_of(reading):
        return Classification(ResponseType.HEDGING, cases, committed=True)
    found = features.features(reading)
    score = feature_weights.score(ResponseType.ANSWER_ATTEMPT, found)
    answers = score > 0
    kind = ResponseType.ANSWER_ATTEMPT if answers else feature_weights.best_kind(found)
    if kind is ResponseType.CLARIFICATION and reading.text.count("?") >= MANY_QUESTIONS:
        return Classification(ResponseType.INTERROGATION, "many question marks", weighed=True)
    evidence = f"{feature_weights.strongest(kind, found)} (answer score {score:+.1f})"
    return Classification(kind, evidence, committed=answers, weighed=True)


#: An answer score from which prose without its questions is an answer for certain; true answers
#: lie above it four times in five, partial work before an honest question seldom does.
_SURE = 1.0


@lru_cache(maxsize=16384)
def answers_anyway(response: str, task: TaskName = "math") -> bool:
    """Whether a reply that asks still answers once its questions and requests are taken out.

    The type of a long reply is a weighing of cues, and a question at its end weighs against an
    answer. A reward must not fall for that.
    """
    told = "\n".join(
        s for s in features.read(response).sentences if not any(p in s for p in features.ASKS)
    )
    if task != "math" or not told:
        return bool(told) and _BY_TASK[task](told).committed
    reading = features.read(told)
    if reading.words <= SHORT:
        return bool(_ANSWER_WORDS.search(told))
    return feature_weights.score(ResponseType.ANSWER_ATTEMPT, features.features(reading)) > _SURE


# --------------------------------------------------------------------- actions, code and database

_CALL = re.compile(r"\b[A-Za-z_]\w*(?:\.\w+)*\(\s*(?:\)|[A-Za-z_]\w*\s*=|['\"\d\[{-])")
_JSON_CALL = re.compile(
    r"['\"](?:name|func_name|function|function_name)['\"]\s*:\s*['\"][\w.]+['\"]", re.IGNORECASE
)
_ARGUMENTS = re.compile(r"\W*[\[{]\s*\{?\s*['\"](?!error|message)\w+['\"]\s*:", re.IGNORECASE)
_COMPLAINT = re.compile(r"missing|error|insufficient|required|not_found|unsupported", re.IGNORECASE)
#: A call with this many words is the call alone.
_BARE_CALL = 12
_OPEN_ARGUMENT = re.compile(r"=\s*(?:\?|''|\"\"|<[^>]*>|\.\.\.)\s*[,)]")
#: A value that says that there is none; an answer under the assumption that it does not matter.
_STAND_IN = re.compile(r"=\s*['\"](?:unknown|unspecified|tbd|n/a|some_\w+)['\"]", re.IGNORECASE)
_FENCE = re.compile(r"(?<!`)```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE = re.compile(r"^\s*(?:def|class|import|from|return)\s+\w", re.MULTILINE)
_SQL = re.compile(
    r"\bselect\s{1,20}[\w(*'\"`]|\bselect\b(?=.{1,2000}?\bfrom\b)", re.IGNORECASE | re.DOTALL
)
_WITH = re.compile(
    r"\bwith\s{1,20}(?:recursive\s{1,20})?\w{1,60}\s{0,20}(?:\([^()]{0,300}\)\s{0,20})?as\b",
    re.IGNORECASE,
)
#: A query that begins its line, also behind "SQL:".
_OWN_LINE = re.compile(
    r"^\W{0,20}(?:sql(?:ite)?(?:\s{1,9}query)?\W{0,9}:\W{0,9})?"
    r"(?:select\b|with\s{1,20}(?:recursive\s{1,20})?\w[^\n]{0,80}\bas\s{0,20}\()",
    re.IGNORECASE | re.MULTILINE,
)
#: What a body alone would go on from.
_HEADER = "def _():\n"


def _actions(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    call = _CALL.search(response) or _JSON_CALL.search(response) or _ARGUMENTS.match(response)
    calls = parse_calls(response) or []
    if call is None and not calls:
        return _prose(response)
    evidence = call[0] if call else f"a call of {calls[0][0]}"
    if _COMPLAINT.search(evidence):
        return Classification(ResponseType.REFUSAL, evidence, weighed=True)
    reading = features.read(response)
    if reading.words > _BARE_CALL and _OPEN_ARGUMENT.search(response):
        why = "a call with an argument left open"
        return Classification(ResponseType.CLARIFICATION, why, weighed=True)
    if reading.words > SHORT and not is_marked(response) and (doubt := _only_shown(reading)):
        return Classification(_talk(response), doubt, weighed=True)
    if stand_in := _STAND_IN.search(response):
        return Classification(ResponseType.HEDGING, stand_in[0])
    closed = bool(calls) or (call is not None and ")" in response[call.start() :])
    return Classification(ResponseType.ANSWER_ATTEMPT, evidence, committed=True, closed=closed)


def _only_shown(reading: Reading) -> str:
    """Why a call in prose is an illustration and not an act, or nothing."""
    supposed = features.found(CUES["suppose"], reading.flat)
    if len(supposed) >= 2:
        return supposed[0]
    gives_up = features.found((*CUES["lack"], *CUES["apology"], "none of"), reading.head)
    asks = features.found(CUES["request"], reading.flat)
    return (gives_up + asks + [""])[0]


def _code(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    fenced = _FENCE.search(response)
    code = _CODE.search(fenced[1] if fenced else response)
    if code or (fenced and len(fenced[1].strip()) > 20):
        closed = response.count("```") % 2 == 0 and "```" in response
        return Classification(ResponseType.ANSWER_ATTEMPT, "code", committed=True, closed=closed)
    if extract_code(response, entry_point="_", prompt=_HEADER):
        return Classification(ResponseType.ANSWER_ATTEMPT, "a function's body", committed=True)
    return _prose(response)


def _database(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    query = _WITH.search(response) or _SQL.search(response)
    if query and ("```" in response or ";" in response or _OWN_LINE.search(response)):
        return Classification(
            ResponseType.ANSWER_ATTEMPT, query[0][:60], committed=True, closed=";" in response
        )
    return _prose(response)


def _prose(response: str) -> Classification:
    """A reply without the thing its task wants: it asks, gives up, or talks."""
    questions = asked(response)
    why = questions[0] if questions else "nothing done or asked"
    plain = bool(questions) and "?" in response and features.read(response).words <= SHORT
    return Classification(_talk(response), why, weighed=not plain)


def _talk(response: str) -> ResponseType:
    questions = len(asked(response))
    if questions > 1:
        return ResponseType.INTERROGATION
    if questions:
        return ResponseType.CLARIFICATION
    long = features.read(response).words > SHORT
    return ResponseType.DISCUSSION if long else ResponseType.REFUSAL


def _open(response: str) -> Classification:
    if nothing := _nothing(response):
        return nothing
    kind, evidence, committed = type_of_open(response)
    # A plan that was cut off is a plan: it has set about the task without asking.
    return Classification(kind, evidence, committed=committed, closed=committed)


_BY_TASK = {
    "math": _math,
    "actions": _actions,
    "code": _code,
    "database": _database,
    "open": _open,
}
