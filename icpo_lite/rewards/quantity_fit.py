"""How well the quantity that a fact tells answers the one that a question wants.

A question about a colour is never met by a number, nor one about minutes by a price: before words
are compared, the sorts of quantity must fit.
"""

from __future__ import annotations

from icpo_lite.core.words import bag, stem
from icpo_lite.rewards.asked_quantity import Quantity
from icpo_lite.rewards.quantity_words import PEOPLE, UNITS
from icpo_lite.rewards.subject_keys import same_thing

#: Nouns that stand for whatever is counted.
_GENERIC = frozenset(
    stem(w) for w in bag("piece item unit thing one object them those these us kind sort type rest")
)


#: Nouns that stand for many others: a question may say "flowers" of the roses.
_KINDS = frozenset(
    stem(w)
    for w in bag(
        "animal pet flower plant vehicle fruit vegetable toy drink food snack treat dish product "
        "good ticket seat place spot location container pack package box bag bottle jar group set "
        "pair batch round turn portion part serving helping ingredient material figure building "
        "device tool book publication game sweet dessert pastry meal garment clothes outfit gift "
        "present purchase order sale trip visit lesson session task chore exercise rep entry "
        "mark point goal hit unit head individual folk crowd specimen sample member copy version "
        "shot picture image letter message mail call piece slice people person time"
    )
)


_DAYS, _YEARS = frozenset({"day", "week"}), frozenset({"year", "month"})
_SHORT_TIMES = frozenset(stem(w) for w in bag("second minute hour"))


def _same_noun(one: str, other: str) -> bool:
    """Names of one thing, or one the head of the other: "room" and "bedroom"."""
    short, long = sorted((one, other), key=len)
    return same_thing(one, other) or (len(short) >= 4 and long.endswith(short))


#: Noun → its other: whoever asks for sisters wants no brothers.
_OTHERS = {
    stem(one): stem(other)
    for pair in (
        "brother sister", "boy girl", "man woman", "son daughter", "uncle aunt", "mother father",
        "king queen", "husband wife", "adult child", "adult kid", "buyer seller", "winner loser",
        "niece nephew", "grandmother grandfather", "teacher student", "parent child",
    )
    for one, other in (pair.split(), pair.split()[::-1])
}  # fmt: skip
#: How well a noun that the problem does not have answers for another thing.
_STRANGE = -1.0


def _names_things(noun: str) -> bool:
    return noun not in UNITS


def _other_things(asked: frozenset[str], told: frozenset[str]) -> bool:
    """Whether one side is counted in steps, laps or coins and the other is measured."""
    by_things = [all("count" in UNITS.get(n, ()) for n in side) for side in (asked, told)]
    in_units = [bool(side) and all(n in UNITS for n in side) for side in (asked, told)]
    return all(in_units) and by_things[0] != by_things[1]


def fit(question: Quantity, fact: Quantity, known: frozenset[str]) -> float:
    """How well a fact's quantity answers a question's: 1 well, 0.5 perhaps, 0 unsaid, -1 never.

    known: stems of all nouns of the problem; a noun that is one of them means itself, another
    may be a synonym.
    """
    vague = len(question.sorts) > 4
    if not fact.measurable:  # no number answers "how many"; anything else may be anything
        return -1.0 if question.sorts else 0.0
    if not question.measurable:
        return -1.0
    if not question.sorts:
        return 0.5 if question.compared and fact.compared else 0.0
    if not question.sorts & fact.sorts:
        return -1.0
    if question.nouns & fact.beside and not question.nouns & fact.nouns:
        return -1.0  # "10 minutes on nine days" with 10 missing tells no days
    if vague and question.sized:
        if fact.sorts == {"count"} and not question.of_many:
            return -1.0
        if question.sorts & fact.sorts == {"money"}:
            return 0.2
    if (
        question.stuff
        and fact.stuff
        and question.stuff <= known
        and not question.stuff & fact.stuff
    ):
        return -1.0  # cups of tea are none of coffee
    if question.sorts == {"age", "time"} and "age" not in fact.sorts and fact.nouns & _SHORT_TIMES:
        return -1.0  # nobody is ten minutes old
    if question.sorts == {"age", "time"} and fact.nouns & _DAYS and not fact.nouns & _YEARS:
        return -1.0  # a birthday in ten days tells no age
    if "factor" in fact.sorts - question.sorts and fact.sorts & question.sorts == {"age"}:
        return 0.3  # "half as old" tells no years
    nouns = question.nouns - _GENERIC
    if not fact.nouns - _GENERIC and "count" in fact.sorts and nouns & known:
        return 0.6
    if not nouns:
        return 1.0 if len(question.sorts) <= 2 else 0.5
    if any(_same_noun(a, b) for a in nouns for b in fact.nouns):
        counts = question.sorts == {"count"} and fact.sorts == {"count"}
        return 0.3 if counts and nouns <= fact.stuff else 1.0  # wheels are not their rows
    if any(_OTHERS.get(noun) in fact.nouns for noun in nouns):
        return -1.0
    if question.nouns & PEOPLE and fact.nouns & PEOPLE and not (question.nouns & known):
        return 0.8
    if question.nouns & PEOPLE and fact.nouns and not fact.nouns & PEOPLE:
        return -1.0
    if question.nouns & PEOPLE and "person" in fact.nouns:
        return 0.6
    if question.stuff & fact.nouns and not question.nouns & known:
        return 0.8  # "layers of paint" are its coats
    if _other_things(nouns, fact.nouns):
        return -1.0  # miles are no steps
    if all(n in UNITS for n in question.nouns):
        return 0.3 if question.nouns & known else 0.6
    if fact.nouns and not nouns <= _KINDS and all(_names_things(n) for n in fact.nouns):
        return -1.0 if question.nouns & known else _STRANGE
    return -1.0 if question.nouns & known and fact.nouns else 0.2
