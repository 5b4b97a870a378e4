"""Number words of Spanish, French, German, Portuguese, Italian, Chinese and Japanese.

"Treinta y siete", "quatre-vingt-dix-sept", "siebenunddreißig", "trentasette" and "三十七" are read
as a person reads them. Words that English has too ("once", "due", "elf") count only where the
caller knows that the text is not English, or within a longer number. One alone is an article and
no number.

The tables: written by hand from each language's ordinary words; no figure of their own was
measured, the tests hold examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from icpo_lite.core.plain_text import LONGEST, MOST_NUMBERS
from icpo_lite.core.words import bag

ForeignNumber = tuple[Fraction, int, int]


def _table(*lines: str) -> dict[str, int]:
    """Word → value, of lines "value: words", or "value+: words" for one after the other."""
    found: dict[str, int] = {}
    for line in lines:
        value, _, words = line.partition(":")
        counts_up = value.endswith("+")
        for i, word in enumerate(words.split()):
            found[word] = int(value.rstrip("+")) + (i if counts_up else 0)
    return found


_SPANISH = _table(
    "0+: cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
    "dieciseis diecisiete dieciocho diecinueve veinte veintiuno veintidos veintitres "
    "veinticuatro veinticinco veintiseis veintisiete veintiocho veintinueve treinta",
    *("1: un una", "21: veintiun veintiuna", "40: cuarenta", "50: cincuenta", "60: sesenta"),
    *(
        "70: setenta",
        "80: ochenta",
        "90: noventa",
        "100: cien ciento",
        "200: doscientos doscientas",
    ),
    *("300: trescientos trescientas", "400: cuatrocientos cuatrocientas"),
    *("500: quinientos quinientas", "600: seiscientos seiscientas", "700: setecientos setecientas"),
    *("800: ochocientos ochocientas", "900: novecientos novecientas", "1000: mil"),
    *("1000000: millon millones", "12: docena docenas"),
)
_FRENCH = _table(
    "0+: zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze "
    "seize",
    *("1: une", "20: vingt vingts", "30: trente", "40: quarante", "50: cinquante", "60: soixante"),
    *("70: septante", "80: huitante octante", "90: nonante", "100: cent cents", "1000: mille"),
    *("1000000: million millions", "12: douzaine", "10: dizaine", "15: quinzaine", "20: vingtaine"),
)
_PORTUGUESE = _table(
    "0+: zero um dois tres quatro cinco seis sete oito nove dez onze doze treze catorze quinze "
    "dezesseis dezessete dezoito dezenove vinte",
    *("1: uma", "2: duas", "14: quatorze", "16: dezasseis", "17: dezassete", "19: dezanove"),
    *("30: trinta", "40: quarenta", "50: cinquenta", "60: sessenta", "70: setenta", "80: oitenta"),
    *("90: noventa", "100: cem cento", "200: duzentos duzentas", "300: trezentos trezentas"),
    *("400: quatrocentos quatrocentas", "500: quinhentos quinhentas", "600: seiscentos seiscentas"),
    *("700: setecentos setecentas", "800: oitocentos oitocentas", "900: novecentos novecentas"),
    *("1000: mil", "1000000: milhao milhoes", "12: duzia duzias"),
)
_ITALIAN = _table(
    "0+: zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici "
    "quattordici quindici sedici diciassette diciotto diciannove venti",
    *(
        "1: un una",
        "20: vent",
        "30: trenta trent",
        "40: quaranta quarant",
        "50: cinquanta cinquant",
    ),
    *("60: sessanta sessant", "70: settanta settant", "80: ottanta ottant", "90: novanta novant"),
    *("100: cento cent", "1000: mille mila", "1000000: milione milioni", "12: dozzina"),
)
_GERMAN = _table(
    "0+: null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf",
    *("1: ein eine einen einer", "2: zwo", "5: fuenf", "6: sech", "7: sieb", "12: zwoelf dutzend"),
    *("20: zwanzig", "30: dreissig dreizig", "40: vierzig", "50: funfzig fuenfzig", "60: sechzig"),
    *("70: siebzig", "80: achtzig", "90: neunzig", "100: hundert", "1000: tausend"),
    "1000000: million millionen",
)


@dataclass(frozen=True, slots=True)
class _Language:
    """Values of words; between: what stands between two of them; joined: whether a word may hold
    several; score: whether "four twenties" are eighty."""

    values: Mapping[str, int]
    between: str
    joined: bool = False
    score: bool = False


_LANGUAGES = (
    _Language(_SPANISH, "y"),
    _Language(_FRENCH, "et", score=True),
    _Language(_PORTUGUESE, "e"),
    _Language(_ITALIAN, "e", joined=True),
    _Language(_GERMAN, "und", joined=True),
)
#: English words, names and abbreviations that are number words elsewhere, and words of one.
_ENGLISH_TOO = bag(
    "once six seize doze cent cents mil elf quince sept due venti vent otto mille sei dos tres tre "
    "nove null million millions zero cinquanta set trent un una uno une um uma ein eine einen "
    "einer eins dozen dix"
)
_LETTERS = re.compile(r"[^\W\d_]+")
_HEAD = 2
_HEADS = {word[:_HEAD] for language in _LANGUAGES for word in language.values}
#: Names with a capital, numbers without one.
_NAMES_TOO = bag("otto dix nove sei tre tres mille")
#: A longer word is no number that a person writes.
_LONGEST_WORD = 60


@lru_cache(maxsize=65536)
def _bare(word: str) -> str:
    """A word in small letters without accents."""
    folded = unicodedata.normalize("NFKD", word.lower().replace("ß", "ss"))
    return "".join(c for c in folded if not unicodedata.combining(c))


@lru_cache(maxsize=65536)
def _parts(word: str, at: int) -> tuple[int, ...] | None:
    """The values that a word holds in one language, or nothing where it is no number there."""
    language = _LANGUAGES[at]
    if word in language.values:
        return (language.values[word],)
    if not language.joined or len(word) > _LONGEST_WORD:
        return None
    return _split(word, language)


def _split(word: str, language: _Language) -> tuple[int, ...] | None:
    """The values of a compound: read[i] is how the word up to i is read, the longest part first."""
    read: list[tuple[int, ...] | None] = [(), *[None] * len(word)]
    for i in range(len(word)):
        so_far = read[i]
        if so_far is None:
            continue
        rest = word[i:]
        for part, value in language.values.items():
            if rest.startswith(part) and read[i + len(part)] is None:
                read[i + len(part)] = (*so_far, value)
        if so_far and language.between == "und" and rest.startswith("und"):
            read[i + 3] = read[i + 3] or so_far
    return read[-1]


def _value(parts: tuple[int, ...], *, score: bool) -> int:
    """One number of the values of its words, which add up or, before a scale, multiply."""
    total = current = 0
    for part in parts:
        if part >= 1000:
            total += max(current, 1) * part
            current = 0
        elif part == 100:
            current = max(current, 1) * 100
        elif score and part == 20 and current % 100 == 4:
            current += 76
        else:
            current += part
    return total + current


def foreign_numbers(text: str, *, foreign: bool) -> list[ForeignNumber]:
    """Numbers in words of other languages, with their places, in order.

    foreign: whether the text is known not to be English, so that "once" is eleven.
    """
    text = text[:LONGEST]
    found = list(_spoken(text, foreign))
    if not text.isascii():
        found += _written(text)
    return sorted(found, key=lambda n: n[1])[:MOST_NUMBERS]


def _spoken(text: str, foreign: bool) -> Iterator[ForeignNumber]:
    words = list(_LETTERS.finditer(text))
    i = 0
    while i < len(words):
        end, value = i, 0
        if _bare(words[i][0])[:_HEAD] in _HEADS:
            end, value = max(
                (_longest(text, words, i, at) for at in range(len(_LANGUAGES))),
                key=lambda read: read[0],
            )
        alone = end == i + 1 and _is_english(words[i][0])
        if end > i and value != 1 and (foreign or not alone):
            yield Fraction(value), words[i].start(), words[end - 1].end()
        i = max(end, i + 1)


def _is_english(word: str) -> bool:
    bare = _bare(word)
    return bare in _ENGLISH_TOO and not (bare in _NAMES_TOO and word.islower())


_JOINT = re.compile(r"[ \u00a0-]{1,2}")


def _longest(text: str, words: list[re.Match[str]], first: int, at: int) -> tuple[int, int]:
    """Where the number of one language that begins at a word ends, and its value."""
    language = _LANGUAGES[at]
    parts: list[int] = []
    end = i = first
    while i < len(words) and i - first < 2 * MOST_WORDS:
        joint = i == first or _JOINT.fullmatch(text, words[i - 1].end(), words[i].start())
        word = _bare(words[i][0])
        if not joint:
            break
        if word == language.between and parts:
            i += 1
            continue
        more = _parts(word, at)
        if more is None or (parts and not _follows(parts[-1], more[0], language)):
            break
        parts += more
        i = end = i + 1
    return end, _value(tuple(parts), score=language.score)


#: Words of one number at most.
MOST_WORDS = 12


def _follows(before: int, value: int, language: _Language) -> bool:
    """Whether a word may go on a number: "treinta" then "siete", and neither "dos" then "tres"."""
    if value >= 100:
        return value % 100 == 0 and (before < value or before >= 1000)
    if language.score and (before, value) in ((4, 20), (60, 10), (20, 10)):
        return True
    if language.score and before in (20, 60):
        return value < 20
    if language.between == "und" and before < 10:
        return value >= 20
    return before >= 100 or (before >= 20 and value < 10) or (before == 10 and value < 10)


# ------------------------------------------------------------------------- Chinese and Japanese

_HAN_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = re.compile(r"[零〇一二三四五六七八九十百千万萬亿億两兩]{1,40}")
#: Words in which a numeral is no number.
_HAN_WORDS = re.compile(
    r"三明治|三角|四边|四周|四季|四处|十分|万一|萬一|千万[别不要]|百货|百合|一[些共般起样旦切直定致种下边面方部点会]"
    r"|统一|唯一|之一|第[零〇一二三四五六七八九十百千]+|万[年岁]|七夕|八卦|九州|五金|三文鱼|三国|两者|两人|二人|一つ"
    r"|十二支|万が一|一緒|一番|二次元|三重"
)
_OF = re.compile(r"分之")
_KANA = {
    "ふたつ": 2, "みっつ": 3, "よっつ": 4, "いつつ": 5, "むっつ": 6, "ななつ": 7, "やっつ": 8,
    "ここのつ": 9,
}  # fmt: skip
_READINGS = {
    "いち": 1, "に": 2, "さん": 3, "よん": 4, "し": 4, "ご": 5, "ろく": 6, "なな": 7, "しち": 7,
    "はち": 8, "きゅう": 9, "く": 9,
}  # fmt: skip
_ONES = "|".join(sorted(_READINGS, key=len, reverse=True))
_SPELT = re.compile(
    rf"(?P<things>{'|'.join(_KANA)})"
    rf"|(?:(?P<tens>{_ONES})?じゅう(?P<ones>{_ONES})?)(?=です|個|本|人|円|つ|枚|冊|[。、,.!?！？\s]|$)"
)


def _written(text: str) -> Iterator[ForeignNumber]:
    """Numerals of Han script, and numbers spelt in kana."""
    no_numbers = {at for m in _HAN_WORDS.finditer(text) for at in range(*m.span())}
    last = -1
    for match in _HAN.finditer(text):
        if match.start() <= last or match.start() in no_numbers:
            continue
        value, end = Fraction(_han(match[0])), match.end()
        share = _OF.match(text, end)
        top = _HAN.match(text, share.end()) if share else None
        if top and value:
            value, end = Fraction(_han(top[0])) / value, top.end()
        last = end - 1
        if value != 1:
            yield value, match.start(), end
    for match in _SPELT.finditer(text):
        if things := match["things"]:
            yield Fraction(_KANA[things]), *match.span()
        else:
            tens, ones = (
                _READINGS.get(match["tens"] or "", 1),
                _READINGS.get(match["ones"] or "", 0),
            )
            yield Fraction(10 * tens + ones), *match.span()


def _han(written: str) -> int:
    """ "三十七" → 37, "两百零五" → 205, "二〇二六" → 2026."""
    if not any(c in _HAN_SCALES for c in written):
        return int("".join(str(_HAN_DIGITS[c]) for c in written))
    total = section = digit = 0
    for c in written:
        if c in _HAN_DIGITS:
            digit = _HAN_DIGITS[c]
        elif (scale := _HAN_SCALES[c]) >= 10**4:
            total += max(section + digit, 1) * scale
            section = digit = 0
        else:
            section += max(digit, 1) * scale
            digit = 0
    return total + section + digit
