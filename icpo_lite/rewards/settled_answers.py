"""Whether a reply of any length settles on an answer, or gives one for each of several cases.

The tables: written by hand, as those of `response_type`, beside replies of real models; no figure
of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re

from icpo_lite.rewards import features
from icpo_lite.rewards.courtesies import without_closing
from icpo_lite.rewards.features import CUES, Reading
from icpo_lite.rewards.graders.extraction import stated

#: This many different answers in one reply are a hedge, however they are worded.
MANY_ANSWERS = 3

VALUE = r"[-−]?\s?(?:[$€£]\s?)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?"
_HAS_NUMBER = re.compile(r"\d")
_CANDIDATE = re.compile(
    rf"(?:\banswer\b\D{{0,20}}?|\bor\s+|,\s*|\bmaybe\s+)({VALUE})", re.IGNORECASE
)
_TRIED = re.compile(rf"\banswer\b\D{{0,20}}?({VALUE})")
#: "If there are 6, it is 42; if there are 5, it is 35": an answer for each case, none for this one.
TWO_CASES = re.compile(
    r"\bif\b[^.;?!]{3,120}\d[^.;?!]{0,80}(?:[;.,]|\bbut\b|\band\b)\W{0,3}(?:but |and |or )?"
    r"(?:if|with|for)\b[^.;?!]{3,120}\d",
    re.IGNORECASE,
)


#: Words with which a reply takes its number back, or waits for something.
_UNSETTLED = re.compile(
    r" (?:hypothetical\w*|for example|for instance|example|illustrat\w+|suppose|imagine|unknown"
    r"|not (?:provided|specified|given|enough|stated|sure|certain)|insufficient|missing|please"
    r"|let me know|clarify|cannot|can't|could you|if you|depends|unless|once you|need to know"
    r"|(?:would |still )?need (?:the|more|additional|specific|further|information)|without)(?= )"
)
_MAYBE = re.compile(r"\b(?:could be|might be|may be|either|perhaps|maybe)\b|\d[^.,]{0,20}\bor\b")
#: A condition is one of the problem's own where a conclusion opens with it.
_ONLY_IF = re.compile(r"^(?!\W*(?:therefore|thus|so|hence)\b).{0,200}\bif\b")


def settled(response: str) -> str:
    """The words of an answer that nothing in the reply asks about, supposes or doubts, or "".

    A box, "the answer is 7", or a last sentence that tells what the working came to. Partial work
    can look like this too; on labelled turns fifty times fewer than answers do.
    """
    told = features.read(without_closing(response))
    if not told.sentences or _UNSETTLED.search(told.flat):
        return ""
    if "?" in told.text and not _asks_itself(told):
        return ""
    answer = stated(response)
    if answer is None or answer.how == "told" or _lacks(told):
        return ""
    last = told.sentences[-1]
    if answer.how != "box" and (_MAYBE.search(last) or _ONLY_IF.search(last) or _many(told)):
        return ""
    return answer.words


#: Words with which a question is put to the user.
_OF_USER = re.compile(r"\b(?:you|your|yours|please|i need|tell me|let me know)\b")


def _asks_itself(told: Reading) -> bool:
    """Whether a reply only asks itself ("Is every crate full? Yes.") and then ends in a number.

    Nothing is asked in its last two sentences, nor of the user anywhere.
    """
    *_, before, last = ["", *told.sentences]
    if "?" in f"{before}{last}" or not _HAS_NUMBER.search(last):
        return False
    return not any("?" in s and _OF_USER.search(s) for s in told.sentences)


def _lacks(told: Reading) -> bool:
    return bool(features.found(CUES["lack"], told.flat)) or " don't have enough " in told.flat


def _many(told: Reading) -> bool:
    """Whether a reply tries several answers, one by one or in its last sentence."""
    tried = {m[1] for m in _TRIED.finditer(told.text)}
    return max(len(tried), candidates(told.sentences[-1])) >= MANY_ANSWERS


def candidates(told: str) -> int:
    """How many different numbers a text offers as answers."""
    return len({m[1] for m in _CANDIDATE.finditer(told)})


def cases_of(reading: Reading) -> str:
    """The last words of a reply that works out a number for each of several suppositions and
    ends in more than one, or ""."""
    supposed = [s for s in reading.sentences if _ONE_CASE.search(s)]
    if len(supposed) < 2 or not reading.sentences:
        return ""
    last = reading.sentences[-1]
    open_end = _MAYBE.search(last) or "depend" in last
    return last[-80:] if open_end and _HAS_NUMBER.search(last) and "?" not in reading.text else ""


#: A supposition of a number, and what comes out: "if she has 5 crates, she would have 35 apples".
_ONE_CASE = re.compile(
    r"^(?:\W*|.{0,40}, )(?:but |and |or )?(?:if|assuming|suppose|with)\b"
    r"[^.?!\n]{2,80}\d[^.?!\n]{0,80}\b(?:would|will|could|is|are|=)[^.?!\n]{0,80}\d"
)
