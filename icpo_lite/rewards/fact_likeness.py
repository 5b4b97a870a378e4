"""How alike a question and a fact are: the sort of quantity first, then who, what and when.

What a fact is about is nearest to its number (`fact_reading`): the words of its phrase count most,
then those of its clause, of its sentence, of the rest. A word that another fact has at its own
number tells the two apart, and counts against this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from icpo_lite.rewards.fact_reading import Asked, Fact, Frame
from icpo_lite.rewards.quantity_fit import fit
from icpo_lite.rewards.subject_keys import DECISIVE, KIN, RELATIONS, SORT_TAGS, keys

#: What each agreement is worth and each difference costs, in units of a content word that no other
#: fact has. Chosen on questions written for 100 problems of GSM8K's training set; the shares that
#: are recognised move by less than two points when any of these is halved or doubled.
_SORT, _GOAL_SORT = 1.6, 0.9
_CLAUSE, _SENTENCE, _REST = 0.9, 0.5, 0.3
_NUMBER_BESIDE, _NUMBER_ELSEWHERE, _OWN_NUMBER = 0.7, 0.5, 1.5
_TAG, _SORT_TAG, _DECISIVE = 0.6, 0.5, 2.0
_CONTRASTED, _UNKNOWN, _UNASKED, _GOAL_UNASKED = 0.35, 0.3, 0.15, 0.8
_KIN_UNASKED, _NAME_UNASKED, _EACH, _COMPARED, _NOT_COMPARED = 0.6, 0.3, 0.6, 0.6, 0.15
_OTHER_RELATION, _NOTHING_SAID = 0.5, 0.3


def closest(asked: Asked, facts: Iterable[Fact], frame: Frame) -> float:
    """The likeness to the fact that is most alike; 0 where there is none."""
    return max((likeness(asked, fact, frame) for fact in facts), default=0.0)


def likeness(asked: Asked, fact: Fact, frame: Frame) -> float:
    """In [0, 1): what agrees, against that and what differs; 0 for two sorts or two people."""
    sort = _goal_fit(asked, fact) if fact.is_goal else fit(asked.quantity, fact.tells, frame.nouns)
    people = fact.clause & frame.people
    if not people - KIN:  # "Mrs. Thompson, whose cat is up a 20-foot tree"
        people |= fact.everything & frame.people
    if asked.places and fact.places and not asked.places & fact.places:
        return 0.0
    if sort < 0 or (asked.people and people and not asked.people & people):
        return 0.0
    contrast = _contrast(fact, frame)
    agrees = (_GOAL_SORT if fact.is_goal else _SORT) * sort + _shared(asked, fact, contrast, frame)
    if agrees <= 0:
        return 0.0
    differs = _foreign(asked, fact, contrast, frame) + _unasked(asked, fact, frame)
    return agrees / (agrees + differs + _NOTHING_SAID)


def _goal_fit(asked: Asked, goal: Fact) -> float:
    mine, its = asked.quantity, goal.tells
    if not mine.sorts or not its.sorts:
        return 0.0
    if not mine.sorts & its.sorts or (mine.nouns and its.nouns and not mine.nouns & its.nouns):
        return -1.0
    return 1.0


def _contrast(fact: Fact, frame: Frame) -> frozenset[str]:
    """Keys that other facts have at their numbers and this one does not have in its clause."""
    others = (other.phrase for other in frame.facts if other is not fact)
    return frozenset[str]().union(*others) - fact.clause


def _weigh(found: Iterable[str], frame: Frame) -> float:
    return sum(_weight(key, frame) for key in found)


def _weight(key: str, frame: Frame) -> float:
    if key in DECISIVE:
        return _DECISIVE
    if key in SORT_TAGS:
        return min(_SORT_TAG, frame.weight.get(key, 1.0))
    return max(frame.weight.get(key, 0.0), _TAG if key[0] == "~" else 0.0)


def _reach(fact: Fact) -> frozenset[str]:
    """Keys of a fact's clause; what somebody has is what they start with."""
    starts = bool(fact.clause & {"~own", "~bring", "~capacity"}) and "~left" not in fact.clause
    starts = starts and not fact.is_goal
    return fact.clause | {"~start"} if starts else fact.clause


def _shared(asked: Asked, fact: Fact, contrast: frozenset[str], frame: Frame) -> float:
    clause, about = _reach(fact), asked.about
    farther = about - clause - contrast - fact.others
    worth = _weigh(about & fact.phrase, frame)
    worth += _CLAUSE * _weigh(about & clause - fact.phrase, frame)
    worth += _SENTENCE * _weigh(farther & fact.sentence, frame)
    worth += _REST * _weigh(farther & fact.rest - fact.sentence, frame)
    beside = fact.own if fact.is_goal else fact.beside | _known_by(asked, fact, frame)
    return worth + (_NUMBER_BESIDE if asked.numbers & beside else 0.0)


def _known_by(asked: Asked, fact: Fact, frame: Frame) -> frozenset[Fraction]:
    """The numbers of a given fact that a question tells it by: the $33 of "99 pens for $33"."""
    named = asked.numbers & fact.own & frame.stated
    return named if fact.own - named else frozenset()


def _foreign(asked: Asked, fact: Fact, contrast: frozenset[str], frame: Frame) -> float:
    """What the question says and the fact does not; a fact's own number is not asked for."""
    farther = (fact.sentence | fact.rest) - fact.others
    strange = asked.about - _reach(fact) - (farther - contrast) - SORT_TAGS
    known = [k for k in strange if k in frame.weight or k[0] == "~"]
    loosely = farther - asked.narrow
    cost = sum(_weight(k, frame) * (_CONTRASTED if k in loosely else 1.0) for k in known)
    cost += _UNKNOWN * (len(strange) - len(known))
    if fact.is_goal and "~start" in strange:  # what comes out is not what was there at first
        cost += _DECISIVE
    known_by = _known_by(asked, fact, frame)
    if asked.numbers & fact.own - known_by and not fact.is_goal:
        return cost + _OWN_NUMBER
    elsewhere = asked.numbers & frame.stated - fact.beside - fact.own
    return cost + (_NUMBER_ELSEWHERE if elsewhere else 0.0)


def _unasked(asked: Asked, fact: Fact, frame: Frame) -> float:
    """What the fact says and the question does not."""
    if fact.is_goal:
        narrow = keys(fact.tells.phrase)
        cost = 2 * _weigh(narrow - asked.about, frame)
        cost += _GOAL_UNASKED * _weigh(fact.phrase - narrow - asked.about, frame)
    else:
        said = fact.phrase | (fact.clause & frame.people)
        cost = _UNASKED * _weigh(said - asked.about, frame)
    if asked.people:
        cost += _KIN_UNASKED * len((fact.clause & KIN) - asked.about)
        cost += _NAME_UNASKED * len((fact.phrase & frame.people) - asked.about)
    hers, its = asked.about & RELATIONS, _reach(fact) & RELATIONS
    at_first = "~start" in asked.about and its <= _SUPPLIES
    told_elsewhere = its or hers & _contrast(fact, frame)
    if hers and told_elsewhere and not hers & its and not at_first:
        cost += _OTHER_RELATION
    if asked.quantity.compared != fact.tells.compared:
        cost += _COMPARED if asked.quantity.compared else _NOT_COMPARED
    if asked.each is not None and asked.each != fact.each:
        opposed = fact.each is not None  # a total is no price of one
        cost += (1.0 + (not asked.each)) * _EACH if opposed else 0.6 * _EACH
    return cost


def beyond(asked: Asked, frame: Frame) -> bool:
    """Whether a question says something of a removed fact that the task itself does not say."""
    hers = frozenset[str]().union(*(fact.phrase for fact in frame.removed))
    return bool(asked.about & hers - frame.goal.clause - SORT_TAGS)


#: Tags that a question may leave out and still name a fact in full.
_UNSAID = frozenset({"~own", "~all"})


#: Events that put there what is there at the start.
_SUPPLIES = frozenset({"~make", "~buy", "~grow", "~find", "~earn", "~plant", "~own", "~bring"})


def covers(asked: Asked, facts: Sequence[Fact]) -> int:
    """How many facts a question names in full."""
    named = {fact.clause - _UNSAID for fact in facts}
    return sum(
        len(all_) > 1 and any(k[0] != "~" for k in all_) and all_ <= asked.about for all_ in named
    )
