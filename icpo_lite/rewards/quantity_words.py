"""Ordinary English for the sorts of quantity: units, and the nouns, verbs and adjectives of each.

A sort is a dimension ("money", "time", "length" …); what has none is a "count" of some noun. A
word may have several sorts ("long": a time, a length); one that is in no table decides nothing.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them, by questions of which one part was held back.
"""

from __future__ import annotations

from icpo_lite.core.words import bag, stem


def _table(groups: dict[str, str]) -> dict[str, frozenset[str]]:
    """Stem → sorts, of lines "sort sort: words"."""
    found: dict[str, frozenset[str]] = {}
    for sorts, words in groups.items():
        for word in words.split():
            key = stem(word)
            found[key] = found.get(key, frozenset()) | frozenset(sorts.split())
    return found


def _words(groups: dict[str, str]) -> dict[str, frozenset[str]]:
    """Word → sorts, of lines "sort sort: words"."""
    return {word: frozenset(s.split()) for s, words in groups.items() for word in words.split()}


#: Units: a number in front of one has this sort.
UNITS = _table(
    {
        "money": "$ dollar cent euro buck",
        "money count": "penny pennies nickel dime quarter coin",
        "time": "second minute hour day night week weekend month year decade century fortnight",
        "length": "mile kilometer kilometre km meter metre centimeter cm millimeter mm foot feet "
        "inch yard",
        "length count": "block lap step",
        "weight": "pound lb kilogram kilo kg gram ounce oz ton tonne",
        "volume count": "cup",
        "volume": "gallon liter litre quart pint ml milliliter ounce oz tablespoon teaspoon",
        "area": "acre hectare",
        "temperature": "degree",
        "speed": "mph kph knot",
        "share": "% percent",
    }
)
#: Nouns that name a quantity.
NAMED = _table(
    {
        "money": "price cost fee fare rent salary wage pay payment bill income revenue earnings "
        "saving budget tip bonus deposit balance profit expense charge worth donation allowance "
        "money cash dollar paycheck commission debt loan spending proceeds funds change euro "
        "turnover "
        "cent bid refund toll tuition premium contribution investment capital stake jackpot prize",
        "money share": "discount tax interest markup reduction raise increase",
        "money count time weight volume length share temperature age amount": "value figure "
        "amount quantity total sum margin",
        "count": "number count tally headcount population membership attendance how-many score "
        "enrollment turnout",
        "count money": "sale purchase",
        "count length volume weight area time money": "size length extent magnitude scale",
        "length": "distance height range width depth mileage radius diameter perimeter altitude",
        "weight": "weight mass load",
        "volume": "volume",
        "volume count weight money": "capacity yield output content dose serving supply limit",
        "speed money share frequency count volume": "rate",
        "speed frequency count": "pace speed velocity frequency",
        "area": "area",
        "age": "age",
        "share factor": "percentage percent fraction share portion proportion ratio part",
        "share": "probability chance odds",
        "factor": "factor multiple multiplier",
        "temperature": "temperature",
        "time": "duration lifespan runtime stretch span period interval",
        "time clock": "time deadline",
        "clock": "date",
    }
)
#: "How …" with an adjective or adverb.
HOW = _words(
    {
        "time length": "long short",
        "length": "far tall deep wide thick near close",
        "age time": "old young",
        "length money temperature": "high low",
        "count length area volume weight share money": "big large small",
        "speed frequency count time": "fast quickly rapidly swiftly",
        "count": "numerous populous",
        "share": "likely",
        "money share": "steep",
        "speed": "slow",
        "weight": "heavy",
        "frequency": "often frequently regularly",
        "temperature": "hot cold warm",
        "money": "expensive cheap pricey costly",
        "clock time": "late early soon",
        "share volume": "full",
    }
)
#: "How much …" with a comparative.
COMPARED = _words(
    {
        "weight": "heavier lighter",
        "age time": "older younger",
        "length": "taller farther further",
        "length time": "shorter longer",
        "length money temperature share": "higher",
        "speed time share": "faster slower",
        "temperature": "warmer colder",
        "money share": "cheaper pricier",
        "count length area volume weight money share": "bigger larger smaller",
    }
)
#: Verbs that say what kind of thing is asked: "what does it cost?"
VERBS = _table(
    {
        "money": "cost pay charge earn spend owe save sell bill invest donate give lend deposit "
        "contribute withdraw allot allocate grant",
        "money count": "make raise receive collect own possess",
        "money count time weight volume length share": "amount total",
        "weight": "weigh",
        "length": "measure",
        "count weight volume": "yield produce",
    }
)
#: What else a question may want: none of these is a quantity.
NO_QUANTITY = frozenset(
    stem(word)
    for word in bag(
        "color colour name kind type brand flavor flavour breed variety sort style title topic "
        "subject shape material reason purpose job profession hobby address location place city "
        "country school gender species model make genre theme design pattern language taste mood "
        "ingredient recipe method way plan opinion favorite favourite shade"
    )
)
#: "How much …" alone: anything that is not counted one by one.
MUCH = bag("money weight volume share amount temperature length area time")
#: Whoever can be counted as a person.
PEOPLE = frozenset(
    stem(w)
    for w in bag(
        "person people child kid student pupil adult grown-up man woman boy girl member guest "
        "passenger worker employee friend sibling sister brother cousin player customer visitor "
        "folk human individual patient teacher resident attendee participant viewer senior "
        "classmate teammate alumni graduate delegate buyer shopper client tourist volunteer scout "
    )
)
#: How long something is, in what it is made of: a book in pages, a list in names.
LONG_IN = {
    stem(thing): frozenset(stem(part) for part in parts.split())
    for things, parts in {
        "book novel textbook notebook diary magazine comic story manual document report essay "
        "paper thesis chapter manuscript article letter script poem speech text post": "page word "
        "chapter line paragraph sentence verse",
        "list queue line roster": "person people name item guest child student customer task song "
        "word ingredient friend member",
        "playlist album": "song track",
        "series season show": "episode season",
        "test exam quiz assignment homework survey": "question problem item page",
        "train": "car carriage wagon",
    }.items()
    for thing in things.split()
}
#: Things made of what can be counted: the size of a class is a number of students.
COLLECTIVES = frozenset(
    stem(word)
    for word in bag(
        "class team group family crowd bunch pack set collection litter batch order harvest herd "
        "flock fleet library army audience staff crew membership club troop band company pile "
        "party gathering audience turnout stash hoard haul deck brood school choir orchestra cast "
        "stack row crop catch body load population supply stock assignment homework test exam "
        "list playlist"
    )
)
