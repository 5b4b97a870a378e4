"""A question read in a problem's own words: "How many pooches perform?" asks of dogs, if there are.

Whoever asks in other words than the problem's says "footwear" of its shoes and "animals" of its
dogs. A word that the problem does not hold is replaced by the one of its words that goes for it
(`like_words`): another name, a thing of that kind, another word for the deed. Where the
problem has two such words ("animals" of dogs and cats), or none, the question keeps its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from icpo_lite.core.sentences import entities
from icpo_lite.core.words import bag, content_words, is_plural, stem, words
from icpo_lite.rewards import like_words
from icpo_lite.rewards.quantity_words import NAMED, UNITS
from icpo_lite.rewards.subject_keys import DECISIVE, RELATIONS, SORT_TAGS, keys, same_thing

_Groups = dict[str, list[frozenset[str]]]


def _key(word: str) -> str:
    """A word or a phrase by the stems of its words."""
    return " ".join(stem(part) for part in word.split("_"))


def _groups(table: str) -> _Groups:
    """Word → the others that go for it, a set for each group that it stands in."""
    found: _Groups = {}
    for group in table.split(";"):
        members = frozenset(_key(word) for word in group.split())
        for member in members:
            found.setdefault(member, []).append(members - {member})
    return found


def _kinds(table: str) -> _Groups:
    """Name of a kind → what is of it, and its other names."""
    found: _Groups = {}
    for kind in table.split(";"):
        heads, _, things = kind.partition(":")
        names = frozenset(_key(word) for word in heads.split())
        for name in names:
            found[name] = [(names | {_key(word) for word in things.split()}) - {name}]
    return found


#: In the order in which they are tried: names of one thing, deeds, things of a kind.
_TABLES = (_groups(like_words.SAME), _groups(like_words.DEEDS), _kinds(like_words.KINDS))
_PHRASES = sorted({key for table in _TABLES for key in table if " " in key})
_OPENERS = frozenset(phrase.partition(" ")[0] for phrase in _PHRASES)
_LONGEST_PHRASE = 3
#: What the tables of `subject_keys` compare by themselves.
_TOLD = RELATIONS | SORT_TAGS | DECISIVE
#: Verbs that go for too many others.
_LIGHT = bag(
    "go goes went gone going come comes came coming put puts putting take takes took taken taking"
)
_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")


def vocabulary(problem: str) -> dict[str, str]:
    """Stem → word, of the words of content that a problem holds; names left out."""
    spans = (word for span in entities(problem) for word in span.text.split())
    named = {word for word in spans if not word.endswith("ing")}
    held = (word for word in words(problem) if word not in named and content_words(word))
    return {stem(word): re.sub("['’]s?$", "", word.lower()) for word in held}


def reworded(question: str, known: Mapping[str, str]) -> str:
    """The question with what it calls otherwise called as in the problem; see `vocabulary`."""
    out: list[str] = []
    last = 0
    told = keys(" ".join(known.values()))
    for start, end, key in _units(question):
        word = question[start:end]
        named = word[0].isupper() and start > 0
        if (
            named
            or known.keys() & key.split()
            or key in UNITS
            or key in NAMED
            or not content_words(word)
        ):
            continue
        if (" " not in key and keys(word) & (_TOLD | told)) or word.lower() in _LIGHT:
            continue
        if called := _called(key, tuple(known)):
            out += [question[last:start], _in_number(known[called], word)]
            last = end
    return "".join([*out, question[last:]])


def _units(text: str) -> list[tuple[int, int, str]]:
    """(start, end, key) of each word, or of the phrase that it opens."""
    found = list(_WORD.finditer(text))
    units: list[tuple[int, int, str]] = []
    i = 0
    while i < len(found):
        taken = 1
        keys = [stem(m[0]) for m in found[i : i + _LONGEST_PHRASE]]
        if keys[0] in _OPENERS:
            phrases = (n for n in range(len(keys), 1, -1) if " ".join(keys[:n]) in _PHRASES)
            taken = next(phrases, 1)
        units.append((found[i].start(), found[i + taken - 1].end(), " ".join(keys[:taken])))
        i += taken
    return units


@lru_cache(maxsize=16384)
def _called(key: str, known: tuple[str, ...]) -> str | None:
    """The one word of a problem that a word goes for, as its stem; None for none or for two."""
    for table in _TABLES:
        for others in table.get(key, ()):
            there = [word for word in known if word in others and not keys(word) & DECISIVE]
            if there and all(same_thing(there[0], other) for other in there):
                return there[0]
    return None


def _in_number(word: str, like: str) -> str:
    """A problem's word in the number of the one that it replaces."""
    return f"{word}s" if is_plural(like) and not is_plural(word) else word
