"""What a question asks for: its kind of quantity, noun, subject and verb.

Pure functions over `str`, written for word problems and for short chat turns in English. They are
heuristics, linear in the length of the text.

The tables: written by hand and tried on lic_turn_types_dev.jsonl, so figures on that file are of
data that the author has seen; a model held out is judged in `icpo_lite.tools.train_judge`.
tests/claims/tables.json has what each is worth alone: none changes a type on 164 rows. What they
serve is targets of questions, measured by tests/claims/question_targets.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from icpo_lite.core.sentences import Span, sentences
from icpo_lite.core.words import _PHRASE_END, _WORD, bag, content_words, is_plural, stem

AskKind = Literal["count", "money", "time", "length", "age", "weight", "rate", "amount", "other"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question, or a request such as "please give the price", and what it asks for.

    kind: the sort of quantity. asks: stem of the noun that names it ("apple" in "how many apples",
        "price" in "what is the price"), "" where the question names none. subject and verb: who
        does what, as written and as a stem. words: stems of all content words.
    """

    start: int
    end: int
    text: str
    kind: AskKind
    asks: str
    subject: str
    verb: str
    words: frozenset[str]


_AUXILIARY = (
    r"(?:do|does|did|is|are|was|were|will|would|can|could|should|has|have|had|must|might|may)"
)


_INTERROGATIVE = re.compile(
    r"\b(?:how\s+(?P<how>many|much|long|far|old|tall|often|fast|big|large|heavy|high|deep|wide|soon|late)"
    r"|(?P<wh>what|which|who|whom|whose|when|where|why|how))\b",
    re.IGNORECASE,
)


_REQUEST = re.compile(
    r"\b(?:could|can|would|will|do) you\b|\bplease\b|\blet me know\b"
    r"|\b(?:i(?:'d| would)? (?:also )?(?:need|like|want)(?: to know)?|tell me|specify|clarify"
    r"|provide|calculate|determine|find|compute|figure out)\b",
    re.IGNORECASE,
)


_IMPERATIVE = re.compile(
    r"(?:^|,\s*|\bthen\s+|\band\s+|please\s+)"
    r"(?:calculate|find|determine|compute|figure out|work out|express|give|state|estimate)\b",
    re.IGNORECASE,
)


_HOW_KINDS: dict[str, AskKind] = {
    "long": "time",
    "soon": "time",
    "late": "time",
    "often": "rate",
    "fast": "rate",
    "far": "length",
    "tall": "length",
    "high": "length",
    "deep": "length",
    "wide": "length",
    "old": "age",
    "heavy": "weight",
}


_KIND_NAMES: tuple[tuple[AskKind, str], ...] = (
    (
        "money",
        "money dollar cent cost price pay spend earn charge worth profit bill salary wage "
        "budget change income revenue fee savings owe expense fare rent tip tax",
    ),
    ("time", "time hour minute second day week month year duration decade"),
    ("length", "distance length height width mile kilometer meter inch foot yard"),
    ("weight", "weight pound kilogram gram ounce ton kg weigh"),
    ("rate", "speed rate percent percentage fraction ratio probability mph"),
    ("age", "age"),
)


#: Stems of nouns and verbs that name a kind of quantity.
QUANTITY_KINDS: dict[str, AskKind] = {
    stem(name): kind for kind, names in _KIND_NAMES for name in names.split()
}


#: Characters of a sentence in which a question is looked for.
_LONGEST_QUESTION = 3_000


def questions(text: str, *, requests: bool = True) -> tuple[Question, ...]:
    """The questions of a text; with `requests`, also "please tell me the price." without a "?".

    A sentence counts when it ends in "?" or, as a request, asks the reader for something.
    """
    found = []
    for whole in sentences(text):
        # Of a sentence that nobody writes, its end: that is where a question is asked.
        start = max(whole.start, whole.end - _LONGEST_QUESTION)
        sentence = Span(start, whole.end, text[start : whole.end])
        asked = "?" in sentence.text[-4:]
        if asked or (requests and is_request(sentence.text)):
            found.append(_question(sentence))
    return tuple(found)


#: Characters of "Find x".
_SHORTEST_REQUEST = 6


def is_request(sentence: str) -> bool:
    """Whether a sentence without "?" asks: an imperative ("calculate …") or a polite request."""
    if len(sentence) < _SHORTEST_REQUEST:
        return False
    if _IMPERATIVE.search(sentence):
        return True
    match = _REQUEST.search(sentence)
    return bool(match and _INTERROGATIVE.search(sentence, match.start())) or bool(
        re.match(r"(?:please|could you|can you|would you|let me know|tell me)\b", sentence, re.I)
    )


def _question(sentence: Span) -> Question:
    """Reads the last interrogative of a sentence: "how many <asks> does <subject> <verb>"."""
    text = sentence.text
    match = None
    for match in _INTERROGATIVE.finditer(text):
        if match["how"] or match["wh"].lower() == "what":
            break
    kind: AskKind = "other"
    asks = subject = verb = ""
    if match is not None:
        rest = text[match.end() :]
        how = (match["how"] or "").lower()
        if how in ("many", "much"):
            asks, used = _asked_noun(rest)
            kind = QUANTITY_KINDS.get(asks, "count" if how == "many" else "amount")
            subject, verb = _subject_verb(rest[used:])
            if how == "much" and not asks:
                kind = QUANTITY_KINDS.get(verb, "amount")
        elif how:
            kind = _HOW_KINDS.get(how, "amount")
            subject, verb = _subject_verb(rest)
        elif match["wh"].lower() in ("what", "which"):
            asks, subject, verb = _what(rest)
            kind = QUANTITY_KINDS.get(asks, "count" if "number of" in rest.lower() else "other")
        else:
            subject, verb = _subject_verb(rest)
    else:
        nouns = [w for w in _WORD.findall(text.lower()) if stem(w) in QUANTITY_KINDS]
        if nouns:
            asks = stem(nouns[0])
            kind = QUANTITY_KINDS[asks]
        elif number_of := re.search(r"\bnumber of ([a-z]+)", text, re.I):
            asks, kind = stem(number_of[1]), "count"
    return Question(
        sentence.start, sentence.end, text, kind, asks, subject, verb, content_words(text)
    )


def _asked_noun(rest: str) -> tuple[str, int]:
    """Noun after "how many": its first plural word, else the last word before an auxiliary."""
    at, noun, used = 0, "", 0
    for _ in range(6):
        match = re.compile(r"[ -]+([A-Za-z][A-Za-z’']*)").match(rest, at)
        if match is None:
            break
        word = match[1].lower()
        if re.fullmatch(_AUXILIARY, word) or (word in _PHRASE_END and word not in _DEGREE):
            break
        at = match.end()
        if word in _DEGREE:
            continue
        noun, used = stem(word), at
        if is_plural(word):
            break
    return noun, used or at


_DEGREE = bag("more less fewer total of the")


def _subject_verb(rest: str) -> tuple[str, str]:
    """Subject as written, stem of the verb: "… does the shop owner sell", "… Tom sells"."""
    auxiliary = re.search(rf"\b{_AUXILIARY}\b", rest, re.IGNORECASE)
    subject: list[str] = []
    for match in _WORD.finditer(rest, auxiliary.end() if auxiliary else 0):
        word, low = match[0], match[0].lower()
        if subject and _ends_subject(subject[-1], word):
            return " ".join(subject), stem(low)
        if low in _PREPOSITIONS or len(subject) > 6:
            break
        subject.append(word)
    if len(subject) == 1 and subject[0].islower() and subject[0] not in _PRONOUNS:
        return "", stem(subject[0])
    return " ".join(subject), ""


def _ends_subject(last: str, word: str) -> bool:
    """Whether a subject that ends in `last` is over and `word` is the verb."""
    low, last_low = word.lower(), last.lower()
    if word[0].isupper() or low in ("and", "or") or last_low in _NOT_HEADS:
        return False
    if low in _PREPOSITIONS:
        return False
    if last_low in _PRONOUNS or last[0].isupper() or is_plural(last):
        return True
    return low in _MAIN_VERBS or low.endswith(("s", "ed"))


_PRONOUNS = bag("he she it they we you i everyone everybody")


_MAIN_VERBS = bag(
    "have need get make earn spend pay buy sell cost weigh take read eat use give walk "
    "run drive drink save owe receive work grow bake collect score sleep charge produce "
    "lose win"
)


_PREPOSITIONS = bag("in on at to for from by with after before during if when than")


_NOT_HEADS = bag("the a an his her its their our your my each every all both and or of")


def _what(rest: str) -> tuple[str, str, str]:
    """ "… is the total price of the cookies" → ("price", "the cookies", "")."""
    noun = re.search(
        r"\b(?:is|was|are|were|will be|would be)\s+((?:[A-Za-z’']+\s+)*?)"
        r"([A-Za-z’']+)(?=\s+(?:of|for|in|per|that|left|he|she|they|to|between)\b|\s*[?.,]|$)",
        rest,
        re.IGNORECASE,
    )
    if noun is None:
        subject, verb = _subject_verb(rest)
        return "", subject, verb
    asks = stem(noun[2])
    if asks == "number":
        counted = re.match(r"\s+of\s+(?:[a-z]+ )??([a-z]+s)\b", rest[noun.end() :], re.I)
        asks = stem(counted[1]) if counted else asks
    of = re.match(r"\s+(?:of|for)\s+([^?.,]+)", rest[noun.end() :])
    return asks, of[1].strip() if of else "", ""
