"""What a text is about, as a set of keys: names, "~relation" tags, stems of other content words.

A tag stands for words that a speaker may exchange (bought, purchased; kids, children). The tables
hold ordinary English and were written for the domain of word problems, not for a test's items.

The tables: written by hand as ordinary English. tests/claims/question_targets.py measures what is
built on them, by questions of which one part was held back.
"""

from __future__ import annotations

import re
from functools import lru_cache

from icpo_lite.core.numbers import _SCALES, _SMALL
from icpo_lite.core.plain_text import LONGEST
from icpo_lite.core.sentences import entities
from icpo_lite.core.words import bag, content_words, stem
from icpo_lite.rewards.idioms import plain

_RELATIONS = {
    # between somebody and a quantity
    "own": "have has had having own owns owned possess possesses hold there belong belongs start "
    "starts started begin begins began",
    "start": "start starts started begin begins began beginning initial initially originally "
    "original starting opening before already arrive arrives arrived",
    "buy": "buy buys bought buying purchase purchases purchased purchasing shopping pick "
    "picks picked picking grab grabs grabbed grabbing acquire "
    "acquired order orders ordered ordering",
    "bring": "bring brings bringing brought",
    "plain": "regular regularly ordinary normal standard usual plain",
    "cut": "discount discounts discounted reduce reduces reduced reduction markdown rebate",
    "keep": "keep keeps kept keeping",
    "lose": "lose loses lost losing drop drops dropped misplace misplaced",
    "gift": "give gives gave given giving gift gifts get gets got receive receives received donate "
    "donated donates",
    "sell": "sell sells sold selling sale sales",
    "cost": "cost costs costing price prices priced pay pays paid paying charge charges charged "
    "spend spends spent spending worth fee fees expense expenses expensive tag bill",
    "earn": "earn earns earned earning earnings salary wage wages income revenue profit proceeds "
    "takings",
    "weigh": "weigh weighs weighed weight mass kg kgs lb lbs heavy heavier lighter pound pounds "
    "kilogram kilograms ounce ounces",
    "capacity": "capacity hold held carry carries carrying fit fits contain contains containing "
    "content holds holding serve serves feed feeds",
    "eat": "eat eats ate eaten eating snack snacks consume consumes consumed",
    "find": "find finds found",
    "age": "age ages old older younger",
    "far": "far distance mile miles kilometer kilometers length long",
    "fast": "speed fast mph rate pace",
    "time": "hour hours minute minutes duration",
    "left": "remain remains remaining left leftover over end ends ended final finally after",
    "all": "total altogether combined together everything overall all entire both sum whole",
    "not": "not never without none neither",
    "more": "add adds added adding additional extra",
    # what is done
    "grow": "grow grows grew grown harvest harvested crop pick picks picked picking",
    "read": "read reads reading",
    "race": "race races marathon marathons footrace",
    "make": "make makes made making create creates produce produces produced bake bakes baked "
    "baking build builds built yield yields",
    "use": "use uses used using",
    "run": "run runs ran running jog jogs jogged jogging",
    "walk": "walk walks walked walking hike hikes hiked",
    "plant": "plant plants planted planting",
    "travel": "travel travels traveled travelled drive drives drove driven driving ride rides rode "
    "riding",
    "trip": "trip trips journey journeys voyage",
    "work": "work works worked working job jobs shift",
    "save": "save saves saved saving savings",
    "sleep": "sleep sleeps slept sleeping",
    # who and what
    "kid": "child children kid kids",
    "adult": "adult adults grown-up grown-ups grownups",
    "pupil": "student students pupil pupils",
    "worker": "employee employees worker workers staff",
    "present": "present presents",
    "parcel": "package packages parcel parcels",
    "bike": "bike bikes bicycle bicycles",
    "car": "car cars vehicle vehicles automobile",
    "song": "song songs track tracks tune tunes",
    "movie": "movie movies film films",
    "photo": "photo photos picture pictures photograph photographs",
    "house": "house houses home homes",
    "cloth": "cloth fabric fabrics",
    "coin": "coin coins",
    "rug": "rug rugs carpet carpets",
    "sofa": "sofa couch",
    "store": "store stores shop shops supermarket",
    "baby": "baby babies infant infants",
    "rock": "rock rocks stone stones",
    "tv": "tv tvs television televisions telly",
    "phone": "phone phones cellphone cellphones smartphone smartphones",
    "computer": "computer computers laptop laptops pc",
    "candy": "candy candies sweets",
    "doughnut": "doughnut doughnuts donut donuts",
    "trousers": "pants trousers slacks",
    "bucket": "bucket buckets pail pails",
    "rabbit": "rabbit rabbits bunny bunnies",
    "fuel": "gas gasoline petrol fuel",
    "truck": "truck trucks lorry lorries",
    "flat": "apartment apartments flat flats",
    "doctor": "doctor doctors physician physicians",
    "wrong": "wrong wrongly incorrect incorrectly mistake mistakes error errors",
    "right": "correct correctly right",
    "exercise": "exercise exercises exercised exercising workout workouts train trained training",
    "guest": "guest guests invitee invitees invite invites invited",
    "record": "record records album albums",
    "pane": "pane panes panel panels",
    "crew": "team teams crew squad",
    # when
    "first": "first 1st",
    "now": "now current currently presently moment",
    "day": "day days daily",
    "week": "week weeks weekly",
    "month": "month months monthly",
    "year": "year years yearly annual annually",
}
_TAGS: dict[str, list[str]] = {}
for _name, _group in _RELATIONS.items():
    for _word in _group.split():
        _TAGS.setdefault(_word, []).append(f"~{_name}")

#: Stem → tag, of things that go by several names: "bunny" and "rabbit".
_THINGS = {
    stem(word): name
    for name in bag(
        "kid adult pupil worker present parcel bike car song movie photo house cloth rug sofa "
        "store baby rock tv phone computer candy doughnut trousers bucket rabbit fuel truck flat "
        "doctor wrong guest record pane"
    )
    for word in _RELATIONS[name].split()
}

#: Names of one thing that are told apart as keys, or that a question is made of.
_THINGS |= {
    stem(word): group[0]
    for line in (
        "question problem exercise", "lens lenses contact", "point mark", "attendee guest visitor",
        "customer client shopper", "story floor level", "boat ship vessel", "road street",
        "soda pop", "cookie biscuit", "mug cup", "jacket coat", "sneaker trainer", "rug mat",
        "shirt tee", "suitcase bag", "appointment visit", "machine machinery", "spectator viewer",
        "meal dish", "marker pen", "seat chair", "bodyguard guard",
    )
    for group in [[stem(w) for w in line.split()]]
    for word in line.split()
    if stem(word) not in _THINGS
}  # fmt: skip


def same_thing(one: str, other: str) -> bool:
    """Whether two nouns, as stems, are names of the same thing."""
    return one == other or (one in _THINGS and _THINGS[one] == _THINGS.get(other))


#: Tags of what happens between somebody and a quantity; two that differ are two events.
RELATIONS = frozenset(
    f"~{name}"
    for name in bag(
        "own start buy keep lose gift sell earn eat find grow read make use run walk plant"
    )
)
#: Tags that a quantity's sort says already; they count little, and never against a fact.
SORT_TAGS = frozenset(f"~{t}" for t in ["own", "cost", "time", "far", "fast", "weigh", "age"])
#: A question that says one of these is not about a fact that does not.
DECISIVE = frozenset({"~left", "~not"})
#: Words that a request is made of and that say nothing about the problem.
_FLUFF = bag(
    "many much number numbers amount amounts total know need needed needs provide tell give "
    "information info detail details specific exact please share specify clarify calculate "
    "determine figure answer question help let could would can clarification value values "
    "additional required following more make sure also still actual current currently mean "
    "means order able problem missing find compute solve work thing things bit little "
    "count quantity size what how which when into times time per each every does did do fewer "
    "less some several part portion itself mr mrs ms dr dollar dollars cents money cash double "
    "twice half both gap ask asked asking manage managed mind tells telling says say said wonder "
    "wondering hear hearing like liked likes would"
)
_KIN = bag(
    "brother sister mother father mom mum mommy mama dad daddy papa parent son daughter uncle aunt "
    "cousin grandmother grandfather grandma granny grandpa granddad wife husband friend dog cat "
    "teacher neighbor twin boss roommate niece nephew"
)
#: People who are named by what they are to somebody: "Tom's brother" is not Tom.
KIN = frozenset(stem(word) for word in _KIN)
#: Stem → stem, of the names that one relative, or any people, go by.
_CALLED = {
    stem(word): stem(name)
    for name, words in {
        "mother": "mom mum mommy mama",
        "father": "dad daddy papa",
        "grandmother": "grandma granny",
        "grandfather": "grandpa granddad",
        "neighbor": "neighbour",
        "people": "population inhabitant",
    }.items()
    for word in words.split()
}
_TITLES = bag("Mr. Mrs. Ms. Dr. Prof. St.")
#: What is asked, not what it is asked of.
_HOW = re.compile(r"\bhow (?:big|large|small|long|far|old|fast|heavy|tall|high|deep|wide)\b", re.I)
_WORD = re.compile(r"[A-Za-z][A-Za-z']*(?:-ups?)?")
_CONTRACTED = re.compile(r"'(?:d|ll|ve|re|m)$")


@lru_cache(maxsize=32768)
def keys(text: str) -> frozenset[str]:
    """What a question or a fact is about; numbers, pronouns and words of courtesy left out."""
    found: set[str] = set()
    text = plain(text[:LONGEST].replace("’", "'"))
    for match in _WORD.finditer(_HOW.sub(" ", text)):
        word = match[0].lower().removesuffix("'s")
        if word in _SMALL or word in _SCALES:
            continue
        if word.endswith("n't"):
            found.add("~not")
            continue
        word = _CONTRACTED.sub("", word)
        if tags := _TAGS.get(word):
            found.update(tags)
        elif word not in _FLUFF:
            found |= {_CALLED.get(key, key) for key in content_words(word)}
    return frozenset(found)


@lru_cache(maxsize=32768)
def names(text: str) -> frozenset[str]:
    """Stems of the people that a text names, or calls "brother", "mom", "dog"."""
    named = (word for span in entities(text) for word in span.text.split())
    kin = (_CALLED.get(key, key) for key in content_words(text) if key in KIN)
    return frozenset((*kin, *(stem(word) for word in named if word not in _TITLES)))


def says_nothing(word: str) -> bool:
    """Whether a word, capitalised in a list, is no name: fluff, or in the table of relations."""
    low = word.lower()
    return low in _FLUFF or low in _TAGS


_EACH = re.compile(
    r"\b(?:each|per|every|apiece|individual|single|hourly|daily|weekly)\b"
    r"|^an? [a-z ]{2,30}? (?:costs?|weighs?|holds?|sells?|contains?|makes?|lasts?|serves?)\b"
    r"|\bone (?!of|more|another)[a-z]+\b|\b(?:price|cost|weight|rate|fee|charge) (?:of|for) an? "
    r"|\b(?:does|do|did|will|can|could|would) an? [a-z ]{2,30} (?:cost|weigh|hold|carry|make|have"
    r"|serve|contain|yield|take|produce|sell|go)|\bfor an? [a-z]+\b|\$\S+ an? [a-z]|/[a-z]",
    re.IGNORECASE,
)
_ALL = re.compile(
    r"\b(?:total|altogether|in all|overall|combined|together|everything|all (?:the|of))\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=32768)
def of_each(text: str) -> bool | None:
    """Whether a text speaks of one of many ("each", "per box"), of all, or (None) neither."""
    if _EACH.search(text):
        return True
    return False if _ALL.search(text) else None
