"""Words for what a number counts: units of time and of measure, people, and well known things.

The tables: written by hand and changed while q* of GSM8K's training half were read (seven draws of
200; the last held 1 faulty one), so figures on that half are of data that the author has seen.
"""

from __future__ import annotations

import re
from fractions import Fraction

from icpo_lite.core.numbers import NumberMention
from icpo_lite.core.words import bag, stem

#: Stems of units: of time, and of all other measures.
TIMES = frozenset(
    stem(w)
    for w in bag(
        "second minute hour day week month year decade weekday weekend night morning "
        "afternoon evening season semester"
    )
)
MEASURES = frozenset(
    stem(w)
    for w in bag(
        "kg kilogram gram pound lb lbs ounce oz ton liter litre milliliter gallon quart pint "
        "cup teaspoon tablespoon mile kilometer km meter metre centimeter cm foot feet inch "
        "yard acre square cubic degree calorie percent dollar cent mg ml"
    )
)
#: Nouns whose number everybody knows, or that are no things one could ask the number of.
_KNOWN = frozenset(
    stem(w)
    for w in bag(
        "time eye leg wheel hand side arm ear finger toe parent grandparent half quarter "
        "twin state letter card sock shoe face corner end way part third fourth fifth point "
        "percent other more thing item times less fewer kind type sort color flavor stripe"
    )
)
_PERSON = frozenset(
    stem(w)
    for w in bag(
        "friend child kid brother sister sibling person people man woman boy girl adult son "
        "daughter cousin member player student teammate roommate neighbor coworker colleague "
        "grandchild nephew niece guest worker employee classmate dog cat"
    )
)


def counts_people(mention: NumberMention) -> bool:
    """Whether the number counts beings that a text may also name one by one."""
    return mention.unit in _PERSON


def is_common_knowledge(mention: NumberMention) -> bool:
    """Legs of a spider, wheels of a car, cards of a deck: a reader may know the number."""
    return mention.unit in _KNOWN


#: Things → the sizes that a reader takes them to have who is told none.
_USUAL = {
    **dict.fromkeys(("workday", "shift"), (8,)),
    **dict.fromkeys(("day", "clock"), (24, 8)),
    **dict.fromkeys(("workweek", "week"), (7, 5, 40)),
    **dict.fromkeys(("year", "calendar"), (12, 52, 365)),
    "hour": (60,),
    "minute": (60,),
    "deck": (52,),
    "work": (8, 40, 5),  # "an 8-hour work day", "a 40-hour work week"
}


def is_usual_size(value: Fraction, noun: str) -> bool:
    """Whether "an 8-hour workday" says of a thing what it is taken to be without a word."""
    return value in _USUAL.get(noun.lower(), ())


#: What qualifies a number and goes with it.
ADVERB = re.compile(
    r"\b(?<!no )(?:about|around|approximately|exactly|nearly|almost|roughly|only|just|at least"
    r"|at most|up to"
    r"|a total of|the total of|a set of|as many as|an average of) $",
    re.IGNORECASE,
)
#: Words behind which "several" cannot stand in a number's place.
BEFORE_MEASURE = bag(
    "each every per another one of first last next than by to between from or other "
    "additional an a and the past total extra at no number chapter room level page above "
    "below nearest"
) | frozenset("-$&:(")
