"""The question for a fact without a count: a value that a call needs, a point that a set names.

"The city is Paris."              "What is the city?"
"Duration of the trip"            "What is the duration of the trip?"
"how many pens Ann buys"          "Could you tell me how many pens Ann buys?"
"Which town do you mean?"         itself
"""

from __future__ import annotations

import re

from icpo_lite.core.sentences import is_plural
from icpo_lite.data.question_clauses import small
from icpo_lite.data.verb_forms import is_finite

#: Facts of actions, database and code tasks, as `value_shards` words them.
_VALUE = re.compile(
    r'(?:In "(?P<context>.+?)", t|T)he (?P<noun>.+?)(?: (?P<verb>is|are) |: )'
    r"|Take (?P<letter>\S+) = "
)
#: What a coding task lacks, as `code_conditions` and `code_requirements` word it.
_LACKED = re.compile(r"The (?:certain (?P<what>[a-z]+)|meaning of (?P<term>'[^']+')): ", re.I)
_ASKED = re.compile(r"(?:how|what|which|where|when|who|whom|whose|whether|why|if)\b", re.IGNORECASE)
_ORDER = re.compile(r"(?:clarify|confirm|specify|state|provide|give|tell|explain|describe)\b", re.I)
_MOST_WORDS = 12


def value_question(fact: str) -> str | None:
    """The question for a value that a fact names ("The year is 2014."); None for another fact."""
    stated = _VALUE.match(fact)
    if stated is None:
        return None
    if lacked := _LACKED.match(fact):
        return _lacked_question(lacked)
    if stated["letter"]:
        return f"What is {stated['letter']}?"
    where = f' in "{stated["context"]}"' if stated["context"] else ""
    return f"What {stated['verb'] or 'are'} the {stated['noun']}{where}?"


_ASKS = {
    "condition": "What is the condition?",
    "order": "In which order?",
    "value": "What should be returned then?",
    "way": "In which way?",
}


def _lacked_question(lacked: re.Match[str]) -> str:
    if lacked["term"]:
        return f"What does {lacked['term']} mean here?"
    return _ASKS.get(lacked["what"].lower(), f"Which {lacked['what']} do you mean?")


def point_question(point: str) -> str | None:
    """The question for a point that somebody names as missing; None for a whole sentence."""
    text = re.sub(r"\s+", " ", point).strip(" .;:-")
    if text.endswith("?"):
        return text[:1].upper() + text[1:]
    words = text.split()
    if not words or len(words) > _MOST_WORDS:
        return None
    if _ORDER.match(text):
        return f"Could you {text[:1].lower() + text[1:]}?"
    if _ASKED.match(text):
        return f"Could you tell me {small(text[:1].lower() + text[1:])}?"
    plain = [w for w in re.findall(r"[a-z]+", text) if w not in _NOUNS_TOO and w[-2:] != "ed"]
    if re.search(r"[.,;:!()\d\"]", text) or any(is_finite(w) or w in _BE for w in plain):
        return None
    noun = text[:1].lower() + text[1:] if words[0].istitle() else text
    noun = re.sub(r"_+", " ", noun)
    head = re.split(r" (?:of|in|on|at|for|from|with|to|by) ", noun)[0].rsplit(" ", 1)[-1]
    article = "" if re.match(r"(?:the|a|an|your|his|her|their|my|any|some)\b", noun) else "the "
    return f"What {'are' if is_plural(head) else 'is'} {article}{noun}?"


_BE = frozenset(("is", "are", "was", "were", "has", "have", "had", "will", "can"))
#: Verbs that name things as well.
_NOUNS_TOO = frozenset(
    (
        *("cost", "price", "budget", "stay", "trip", "travel", "use", "need", "needs", "visit"),
        *("type", "level", "range", "date", "time", "place", "work", "plan", "focus", "length"),
        *("size", "style", "interest", "interests", "start", "end", "order", "group", "form"),
    )
)
