"""Words of a text, their stems, and which of them carry meaning.

Pure functions over `str`, written for word problems and for short chat turns in English. They are
heuristics, linear in the length of the text.

The tables: written by hand. tests/claims/tables.json has what each is worth alone: none changes the
number of certified problems by a point, nor a type of reply.
"""

from __future__ import annotations

import re
from functools import lru_cache


def _list(text: str) -> list[str]:
    return text.split()


def bag(text: str) -> frozenset[str]:
    """The words of a string as a set; for word lists in code."""
    return frozenset(text.split())


_WORD = re.compile(r"[A-Za-z][A-Za-z'’]*")


#: Words that end a noun phrase after a number.
_PHRASE_END = bag(
    "of in on at to for from by with without as than that which who whom whose and or "
    "but if when while is are was were be been being has have had do does did can could "
    "will would should may might he she it they we you i his her its their our your my "
    "the a an this these those there per each every after before during until since "
    "because so then more less fewer times how what into left apart ago away daily "
    "weekly monthly long wide high tall deep"
)


_STOP = bag(
    "a an the of in on at to for from by with as than that which who whom whose and or "
    "but if then when while is are was were be been being am do does did can could will "
    "would should may might must shall he she it they we you i him them us me his her "
    "its their our your my this these those there here so not no nor also just only very "
    "too much many how what where why all both please tell know let need needs provide "
    "give given total totally altogether out up down off into about over under again any "
    "some such own same s t have has had get got per each every one"
)


_IRREGULAR = {
    "children": "child",
    "men": "man",
    "women": "woman",
    "people": "person",
    "persons": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "bought": "buy",
    "sold": "sell",
    "paid": "pay",
    "spent": "spend",
    "ate": "eat",
    "eaten": "eat",
    "gave": "give",
    "given": "give",
    "made": "mak",
    "got": "get",
    "had": "hav",
    "has": "hav",
    "lost": "los",
    "took": "tak",
    "taken": "tak",
    "went": "go",
    "gone": "go",
    "goes": "go",
    "ran": "run",
    "wrote": "writ",
    "written": "writ",
    "drove": "driv",
    "driven": "driv",
    "drank": "drink",
    "drunk": "drink",
    "found": "find",
    "left": "leav",
    "leaves": "leav",
    "kept": "keep",
    "caught": "catch",
    "brought": "bring",
    "thought": "think",
    "began": "begin",
    "grew": "grow",
    "grown": "grow",
    "won": "win",
    "lent": "lend",
    "built": "build",
    "slept": "sleep",
    "swam": "swim",
    "rode": "rid",
    "sang": "sing",
    "dollars": "dollar",
    "lives": "liv",
    "lives'": "liv",
    "series": "seri",
    "shelves": "shelf",
    "loaves": "loaf",
    "knives": "knif",
    "halves": "half",
    "wolves": "wolf",
    "calves": "calf",
}


_VOWEL = re.compile(r"[aeiouy]")


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A light stem, equal for the inflections of a word: cookie, cookies; bake, baked, baking."""
    w = word.lower().replace("’", "'")
    w = w.removesuffix("'s").rstrip("'")
    if w in _IRREGULAR:
        return _IRREGULAR[w]
    if len(w) <= 3:
        return w
    w = _strip_plural(w)
    if w in _IRREGULAR or len(w) <= 3:
        return _IRREGULAR.get(w, w)
    for suffix in ("ing", "ed"):
        root = w.removesuffix(suffix)
        if root != w and len(root) >= 3 and _VOWEL.search(root):
            w = root
            if len(w) > 3 and w[-1] == w[-2] and w[-1] not in "lsz":
                w = w[:-1]
            break
    if w.endswith("ie"):
        return w[:-1]
    if len(w) > 3 and w.endswith("y") and w[-2] not in "aeiou":
        return w[:-1] + "i"
    return w[:-1] if len(w) > 3 and w.endswith("e") else w


def _strip_plural(w: str) -> str:
    if w.endswith(("ss", "us", "is")):
        return w
    if w.endswith("ies"):
        return w[:-3] + "y" if len(w) > 4 else w[:-1]
    if w.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return w[:-2]
    return w[:-1] if w.endswith("s") else w


def words(text: str) -> list[str]:
    """The words of a text as written, numbers in digits left out."""
    return _WORD.findall(text)


def content_words(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning: no articles, pronouns, auxiliaries, no digits."""
    found = (w.lower() for w in _WORD.findall(text))
    return frozenset(stem(w) for w in found if w not in _STOP)


_PLURALS = bag("children people men women feet geese mice teeth sheep fish deer dice oxen")


_NOT_PLURAL = bag(
    "this his its yes less gas bus glass class dress grass boss always previous various "
    "serious christmas across plus mathematics physics news delicious famous extra chess "
    "moss address business mattress was is has does as us thus perhaps besides towards "
    "afterwards"
)


def is_plural(word: str) -> bool:
    """Whether a noun looks plural; "glass" and "bus" do not, "children" does."""
    w = word.lower()
    if w in _PLURALS:
        return True
    return (
        len(w) > 2
        and w.endswith("s")
        and not w.endswith(("ss", "us", "'s", "’s", "ous"))
        and w not in _NOT_PLURAL
    )
