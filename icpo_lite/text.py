"""What a text says, without a model: numbers, names, sentences, and what a question asks for.

Pure functions over `str`, written for word problems and for short chat turns in English. They are
heuristics: each returns spans into the text it was given, so that a caller can always look at the
words. All are linear in the length of the text and use no backtracking over more than a few words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

NumberKind = Literal["cardinal", "ordinal", "fraction", "percent", "money", "multiple"]
AskKind = Literal["count", "money", "time", "length", "age", "weight", "rate", "amount", "other"]


def _list(text: str) -> list[str]:
    return text.split()


def bag(text: str) -> frozenset[str]:
    """The words of a string as a set; for word lists in code."""
    return frozenset(text.split())


_UNITS_WORDS = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS_WORDS = _list("twenty thirty forty fifty sixty seventy eighty ninety")
_SMALL = {w: i for i, w in enumerate(_UNITS_WORDS)} | {
    w: 10 * i for i, w in enumerate(_TENS_WORDS, 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = {
    w: i
    for i, w in enumerate(
        _list("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"),
        1,
    )
}
_DENOMINATORS = {
    "half": 2,
    "halves": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "twelfth": 12,
    "hundredth": 100,
    "thousandth": 1000,
}
_MULTIPLES = {
    "twice": 2,
    "thrice": 3,
    "double": 2,
    "doubled": 2,
    "doubles": 2,
    "doubling": 2,
    "triple": 3,
    "tripled": 3,
    "triples": 3,
    "tripling": 3,
    "quadruple": 4,
    "quadrupled": 4,
    "quintuple": 5,
    "halved": 2,
    "halves": 2,
}
_VULGAR = dict(
    zip(
        "½⅓⅔¼¾⅕⅖⅗⅘⅙⅛⅜⅝⅞",
        _list("1/2 1/3 2/3 1/4 3/4 1/5 2/5 3/5 4/5 1/6 1/8 3/8 5/8 7/8"),
        strict=True,
    )
)
_GROUPS = {"dozen": 12, "dozens": 12, "score": 20, "gross": 144, "couple": 2, "pair": 2}

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\d.])\.\d+)"
_SMALL_RE = "|".join([*_TENS_WORDS, *sorted(_UNITS_WORDS, key=len, reverse=True)])
_WORD_RE = (
    rf"(?:(?:an?[ -])?(?:half[ -])?(?:hundred|thousand|million|billion)|(?:{_SMALL_RE}))"
    rf"(?:(?:[ -]|[ -]and[ -])(?:{_SMALL_RE}|hundred|thousand|million|billion)\b)*"
)
_DENOM_RE = "|".join(f"{w}s?" for w in _DENOMINATORS if w not in ("half", "halves"))
_NUMBER = re.compile(
    rf"""
      (?P<vulgar>(?:(?P<whole>\d+)[ ]?)?[{"".join(_VULGAR)}])
    | (?P<money>[$£€]\s?)?(?<![\w/])(?:
          (?P<mixed>\d+(?:[ -]|[ ]and[ ])\d+/\d+(?![\d/]))
        | (?P<frac>\d+\s?/\s?\d+(?![\d/])(?:rd|th|nd|ths|rds)?)
        | (?P<digits>{_DIGITS})(?P<digit_tail>
              (?:st|nd|rd|th)\b|\s?%|\s?percent\b|[ ]?(?:hundred|thousand|million|billion)\b|k\b
            )?
      )(?![\d])
    | \b(?P<half_dozen>half[ -](?:a[ -])?dozen)\b
    | \b(?P<fracword>(?:(?:an?|{"|".join(_UNITS_WORDS[1:10])})[ -])?(?:{_DENOM_RE}))\b
    | \b(?P<half>(?:(?:one|an?)[ -])?half|halves)\b
    | \b(?P<words>{_WORD_RE})\b(?P<word_tail>[ ]?(?:percent\b|%))?
    | \b(?P<multiple>{"|".join(_MULTIPLES)})\b
    | \b(?P<group>an?[ ](?:dozen|couple|pair)|dozens?|couple|pair)\b(?=[ ])
    | \b(?P<ordinal>{"|".join(_ORDINALS)})\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: A longer run of digits is no number that a person wrote.
MAX_NUMBER = 60
#: Where a number can begin: the expensive pattern above is tried at these places only.
_TOKEN = re.compile(rf"\d|\.(?=\d)|[$£€](?=\s?[\d.])|[{''.join(_VULGAR)}]|[A-Za-z]+")
_STARTERS = (
    frozenset(_SMALL)
    | frozenset(_SCALES)
    | frozenset(_ORDINALS)
    | frozenset(_MULTIPLES)
    | frozenset(_GROUPS)
    | frozenset(_DENOMINATORS)
    | frozenset(f"{w}s" for w in _DENOMINATORS)
    | frozenset(("a", "an"))
)
_AFTER_GROUP = re.compile(r"[ -](dozens?|score|gross|pairs?)\b", re.IGNORECASE)
_MONEY_AFTER = re.compile(
    r"[ -]?(dollars?|cents?|bucks?|euros?|pounds? sterling)\b|¢", re.IGNORECASE
)
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


@dataclass(frozen=True, slots=True)
class NumberMention:
    """One number in a text.

    value: exact ("a dozen" 12, "25%" 1/4, "two-thirds" 2/3, "twice" 2, "3rd" 3).
    kind: how it is written; `percent` values are already divided by 100.
    unit: stem of the noun it counts ("apple"), "$" for money, "" where nothing follows.
    unit_end: end of that noun, equal to `end` where there is none.
    """

    value: Fraction
    start: int
    end: int
    surface: str
    kind: NumberKind = "cardinal"
    unit: str = ""
    unit_end: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch `text[start:end]` of a longer text."""

    start: int
    end: int
    text: str


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
    if w in _IRREGULAR:
        return _IRREGULAR[w]
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
        return w[:-3] + "y"
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


# ---------------------------------------------------------------------------------------- numbers


@lru_cache(maxsize=4096)
def numbers(text: str) -> tuple[NumberMention, ...]:
    """All numbers of a text in order, without overlaps.

    Digits with separators and decimals, mixed and vulgar fractions, percentages, money, number
    words up to billions, "half", "a third", "dozen", "couple", "twice", "doubled", and ordinals.
    An indefinite "a" or "an" is no number; a bare "second" or "third" after "the" is an ordinal.
    """
    found: list[NumberMention] = []
    at = 0
    for token in _TOKEN.finditer(text):
        start = token.start()
        if start < at or (token[0][0].isalpha() and token[0].lower() not in _STARTERS):
            continue
        match = _NUMBER.match(text, start)
        if match is None:
            continue
        mention = _read(match, text)
        at = max(match.end(), start + 1)
        if mention is not None:
            found.append(mention)
            at = mention.end
    return tuple(found)


def _read(match: re.Match[str], text: str) -> NumberMention | None:
    kind: NumberKind = "cardinal"
    start, end = match.span()
    if end - start > MAX_NUMBER:
        return None
    which = match.lastgroup
    g = match.groupdict()
    if g["vulgar"]:
        value = Fraction(int(g["whole"] or 0)) + Fraction(_VULGAR[g["vulgar"][-1]])
        kind = "fraction"
    elif g["mixed"]:
        whole, part = re.split(r"[ -](?:and[ ])?", g["mixed"], maxsplit=1)
        part = part.removeprefix("and ")
        if part.endswith("/0"):
            return None
        value = int(whole) + Fraction(part)
    elif g["frac"]:
        top, bottom = g["frac"].rstrip("rdthns").split("/")
        if int(bottom) == 0:
            return None
        value, kind = Fraction(int(top), int(bottom)), "fraction"
    elif g["digits"]:
        value, kind = _read_digits(g["digits"], (g["digit_tail"] or "").strip().lower())
    elif g["half_dozen"]:
        value = Fraction(6)
    elif g["fracword"]:
        return _read_fraction_words(match, text)
    elif g["half"]:
        value, kind = Fraction(1, 2), "fraction"
    elif g["words"]:
        value = words_to_number(g["words"])
        if g["word_tail"]:
            value, kind = value / 100, "percent"
        if g["words"].lower() == "one" and re.match(r" (another|day)\b", text[end:], re.I):
            return None
    elif g["multiple"]:
        value, kind = Fraction(_MULTIPLES[g["multiple"].lower()]), "multiple"
        if g["multiple"].lower() in ("halved", "halves"):
            value = Fraction(1, 2)
    elif g["group"]:
        value = Fraction(_GROUPS[g["group"].lower().split()[-1].rstrip("s")])
    elif which == "ordinal" or g["ordinal"]:
        value, kind = Fraction(_ORDINALS[g["ordinal"].lower()]), "ordinal"
    else:
        return None
    if g["money"]:
        kind = "money"
    return _with_unit(text, value, start, end, kind)


def _read_digits(digits: str, tail: str) -> tuple[Fraction, NumberKind]:
    value = Fraction(digits.replace(",", ""))
    if tail in ("st", "nd", "rd", "th"):
        return value, "ordinal"
    if tail in ("%", "percent"):
        return value / 100, "percent"
    if tail == "k":
        return value * 1000, "cardinal"
    return value * _SCALES.get(tail, 1), "cardinal"


def words_to_number(phrase: str) -> Fraction:
    """ "one hundred and twenty-five" → 125; "half a million" is read by its last word only."""
    total = current = 0
    for word in re.split(r"[ -]+", phrase.lower()):
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _SCALES:
            total += max(current, 1) * _SCALES[word]
            current = 0
    return Fraction(total + current)


_AFTER_A_FRACTION = re.compile(r"-| (?:of|as|the|less|more|full|cup|mile|that|pound|an?\b)")


def _read_fraction_words(match: re.Match[str], text: str) -> NumberMention | None:
    """Fractions: "two-thirds", "a third of"; neither "the third day" nor "a quarter" the coin."""
    start, end = match.span()
    parts = re.split(r"[ -]", match["fracword"].lower())
    bottom = _DENOMINATORS[parts[-1].rstrip("s")]
    after = text[end : end + 8].lower()
    numerator = parts[0] if len(parts) > 1 else ""
    if not numerator:
        if parts[-1] in _ORDINALS and not after.startswith((" of ", " as ")):
            return _with_unit(text, Fraction(bottom), start, end, "ordinal")
        if not after.startswith((" of ", " as ")) or parts[-1].endswith("s"):
            return None
        return _with_unit(text, Fraction(1, bottom), start, end, "fraction")
    if numerator in ("a", "an"):
        if not _AFTER_A_FRACTION.match(after):
            return None
        return _with_unit(text, Fraction(1, bottom), start, end, "fraction")
    if parts[-1] == "quarters" and after.startswith((" and", ",", ".")):  # the coins
        return _with_unit(text, Fraction(_SMALL[numerator]), start, start + len(numerator))
    return _with_unit(text, Fraction(_SMALL[numerator], bottom), start, end, "fraction")


def _with_unit(
    text: str, value: Fraction, start: int, end: int, kind: NumberKind = "cardinal"
) -> NumberMention:
    if kind == "cardinal" and (group := _AFTER_GROUP.match(text, end)):
        word = group[1].lower().rstrip("s")
        if word != "pair":
            value, end = value * _GROUPS[word], group.end()
    surface = text[start:end]
    if kind == "money":
        return NumberMention(value, start, end, surface, kind, "$", end)
    if money := _MONEY_AFTER.match(text, end):
        if money[0].strip(" -").lower().startswith(("cent", "¢")):
            value = value / 100
        return NumberMention(value, start, end, surface, "money", "$", money.end())
    if kind == "percent":
        return NumberMention(value, start, end, surface, kind, "%", end)
    unit, unit_end = _noun_after(text, end)
    return NumberMention(value, start, end, surface, kind, unit, unit_end)


def _noun_after(text: str, at: int) -> tuple[str, int]:
    """Head noun of the phrase that starts at `at`: its first plural word, else its first word."""
    first: tuple[str, int] | None = None
    if more := _MORE.match(text, at):
        at = more.end()
    for _ in range(5):
        match = _NEXT_WORD.match(text, at)
        if match is None or (word := match[1].lower()) in _PHRASE_END:
            break
        if first is None:
            first = (stem(word), match.end())
        if is_plural(word):
            return stem(word), match.end()
        at = match.end()
    return first or ("", at)


_NEXT_WORD = re.compile(r"[ -]([A-Za-z][A-Za-z’']*)")
_MORE = re.compile(r" (?:more|fewer|less|other|additional)(?= (?!than\b)[a-z])", re.IGNORECASE)


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


# -------------------------------------------------------------------------------------- sentences

_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Sr|Jr|Prof|Mt|vs|etc|approx|No|lbs?|oz|ft|sq|hr|min|e\.g|i\.e|a\.m|p\.m|U\.S|[A-Z])"
    r"|\b[ap]\.m)\.$"
)
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)]*(?=\s|$|[A-Z])|\n+")


def sentences(text: str) -> tuple[Span, ...]:
    """The sentences of a text, trimmed; a decimal point or "Mr." ends none, a newline does."""
    found: list[Span] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if match[0][0] == "." and not _ends_sentence(text, start, match):
            continue
        _add_span(found, text, start, match.end())
        start = match.end()
    _add_span(found, text, start, len(text))
    return tuple(found)


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    before = text[start : match.start() + 1]
    after = text[match.end() : match.end() + 2].lstrip()
    if match.end() < len(text) and not text[match.end()].isspace():
        previous = text[match.start() - 1] if match.start() else " "
        return previous.islower() and match.start() - start > 8
    if _ABBREVIATION.search(before):
        return bool(re.search(r"\b[ap]\.m\.$", before)) and after[:1].isupper()
    return True


def _add_span(found: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        start += len(piece) - len(piece.lstrip())
        found.append(Span(start, start + len(stripped), stripped))


# ----------------------------------------------------------------------------------------- names

_CAPITAL = re.compile(
    r"\b(?:(?:Mrs?|Ms|Dr|Prof|St)\. )?[A-Z][a-z’']+(?: (?:Jr|Sr)\.|(?: [A-Z][a-z’']+)+)?"
)
_NOT_NAMES = bag(
    "A An The He She It They We You I His Her Its Their Our Your My This These Those "
    "That There If When While After Before During Since Then Next Finally First Second "
    "Third How What Where Who Which Why In On At To For From By With Of And Or But So As "
    "Each Every All Both Some Most Half Twice One Two Three Four Five Six Seven Eight "
    "Nine Ten Eleven Twelve Fifteen Twenty Thirty Forty Fifty Sixty Seventy Eighty "
    "Ninety Hundred Given Assuming Suppose Let Find Calculate Determine Compute Express "
    "Round Yesterday Today Tomorrow Tonight Later Now Last However Also Out Over Once "
    "Only Everyone Nobody Between Because Although Though Until Unless Without Within "
    "Initially Originally Additionally Together Currently Usually Normally Another Other "
    "Their Per Not No Yes Can Could Would Should Will Do Does Did Is Are Was Were Has "
    "Have Had Be Please Sure Thanks Ok Okay Let's Here Under Through Altogether Instead "
    "Besides Unfortunately Monday Tuesday Wednesday Thursday Friday Saturday Sunday "
    "January February March April May June July August September October November "
    "December Christmas Easter Halloween"
)


def entities(text: str) -> tuple[Span, ...]:
    """Capitalised names, in order, each occurrence; no days, months or sentence openers.

    A capitalised word that opens a sentence counts when it also stands capitalised elsewhere, or
    is no ordinary word in lower case in the text ("Bakers bake …; the bakers" is no name).
    """
    lower = {w for w in _WORD.findall(text) if w.islower()}
    found: list[Span] = []
    for match in _CAPITAL.finditer(text):
        start, surface = match.start(), match[0]
        while surface and (first := surface.split(" ", 1)[0].rstrip("'’")) in _NOT_NAMES:
            start += len(surface.split(" ", 1)[0]) + 1
            surface = text[start : match.end()]
            if not surface or first == surface:
                break
        surface = re.sub(r"['’]s?$", "", surface)
        if not surface or surface in _NOT_NAMES or not surface[0].isupper():
            continue
        head = surface.split(" ", 1)[0]
        singular = head.lower().rstrip("s")
        if head.lower() in lower or (is_plural(head) and singular in lower):
            continue
        found.append(Span(start, start + len(surface), surface))
    return tuple(found)


# -------------------------------------------------------------------------------------- questions

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


def questions(text: str, *, requests: bool = True) -> tuple[Question, ...]:
    """The questions of a text; with `requests`, also "please tell me the price." without a "?".

    A sentence counts when it ends in "?" or, as a request, asks the reader for something.
    """
    found = []
    for sentence in sentences(text):
        asked = "?" in sentence.text[-4:]
        if asked or (requests and is_request(sentence.text)):
            found.append(_question(sentence))
    return tuple(found)


def is_request(sentence: str) -> bool:
    """Whether a sentence without "?" asks: an imperative ("calculate …") or a polite request."""
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
