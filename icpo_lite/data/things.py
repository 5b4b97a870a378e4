"""What "it", "they" and "this shop" stand for in a clause: the one thing named before that fits.

The tables: written by hand; no figure of their own was measured, the tests hold examples.
"""

from __future__ import annotations

import re

from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import counted, counted_noun
from icpo_lite.data.people import people
from icpo_lite.data.unit_words import counts_people
from icpo_lite.data.verb_forms import asks_with, is_finite

_PRONOUN_FIRST = re.compile(r"(?:and |but )?(?P<word>it|they)\b", re.IGNORECASE)


_ACTS = re.compile(
    r" (?:also |only )?(?:has|had|holds?|contains?|costs?|weighs?|needs?|sells?|can)\b"
)


def with_thing(said: str, before: str, so_far: str) -> str:
    """A clause with the "it", "they" or "this thing" that it opens with named, where that is clear.

    before: the sentence before the clause. so_far: all of the text before it.
    """
    pronoun = _PRONOUN_FIRST.match(said)
    name = ""
    if pronoun is not None:
        acts = _ACTS.match(said, pronoun.end()) is not None
        things = acts or _THINGS_DO.match(said, pronoun.end()) is not None
        it = pronoun["word"].lower() == "it"
        name = _only_thing(before, acts=acts) if it else _they(before, so_far, things=things)
    if pronoun is not None and name:
        rest = said[pronoun.end() :]
        one = pronoun["word"].lower() == "they" and name.rsplit(" ", 1)[-1] in _MANY_AS_ONE
        said = name + (_of_one(rest) if one else rest)
    if (each := _EACH_OF_THEM.match(said)) and (both := _two(so_far)):
        said = f"{each[1]} {both}{said[each.end() :]}"
    return _the_named(said, so_far)


_EACH_OF_THEM = re.compile(r"(Each of|Both of) (?:them|those)(?= [a-z]+)")
_VERB_BEHIND = re.compile(r"(?P<before> (?:also |only |just |then |now |still )?)(?P<verb>[a-z]+)")


def _of_one(rest: str) -> str:
    """ " make 6 pies" as one does it, not they: " makes 6 pies"."""
    match = _VERB_BEHIND.match(rest)
    if match is None:
        return rest
    verb = match["verb"]
    one = {"are": "is", "were": "was", "have": "has", "do": "does"}.get(verb, verb)
    if one == verb and asks_with(verb, "") == ("do", verb) and is_finite(verb):
        one = re.sub(r"(?<=[^aeiou])y$", "ie", verb)
        one += "es" if re.search(r"(?:s|x|z|ch|sh|o)$", one) else "s"
    return match["before"] + one + rest[match.end() :]


_THIS_THING = re.compile(r"(?:[Tt]his|[Tt]hese|[Tt]hose|[Tt]hat) (?P<noun>[a-z]{3,})\b")


def _the_named(words: str, so_far: str) -> str:
    """ "This shop is open" → "The shop is open", where the text has spoken of a shop."""
    match = _THIS_THING.match(words)
    if (
        match is None
        or match["noun"] in _NO_THING
        or not re.search(rf"\b{match['noun']}\b", so_far)
    ):
        return words
    return f"The {match['noun']}{words[match.end() :]}"


_ONE_THING = re.compile(
    r"\ban? ((?:[a-z-]+ ){0,2}?[a-z-]+)"
    r"(?=[.,]|$| (?:for|that|with|at|in|on|and|from|to|costs?|is|was)\b)"
)
_NO_THING = {
    "day",
    "week",
    "month",
    "year",
    "hour",
    "minute",
    "lot",
    "row",
    "time",
    "while",
    "amount",
}


def _only_thing(words: str, *, acts: bool) -> str:
    """What "it" stands for behind "John buys a toy.": "The toy"; "" where that is not clear.

    acts: whether "it" holds, costs or needs something, and so is no "It is breeding season".
    """
    found = [m[1] for m in _ONE_THING.finditer(words) if m[1] not in _NO_THING]
    subject = re.match(r"(?:[A-Z][a-z]+|He|She|They) ", words)
    if len(found) == 1 and subject:
        return f"The {found[0]}"
    itself = _ONE_SUBJECT.match(words)
    return f"The {itself['noun']}" if itself and acts and not people(words) else ""


_PAIR = re.compile(
    r"\b[A-Z][a-z]+ and (?:[A-Z][a-z]+|(?:his|her) (?:best )?(?:brother|sister|friend|mother|father"
    r"|mom|dad|wife|husband|cousin|twin|son|daughter))\b"
)


def _two(so_far: str) -> str:
    """The two people of a text that names no others: "Travis and his brother"; "" without."""
    both = _PAIR.search(so_far)
    others = set(people(so_far)) - set(both[0].split(" and ")) if both else {""}
    return both[0] if both and not others else ""


#: What things do, unlike "They offer a discount", which tells of those who hold them.
_THINGS_DO = re.compile(
    r" (?:also |only |each |all |both |then |now )?(?:are|were|will be)\b(?! (?:\w+ )?\w+ing\b)"
    r"| (?:also |only |each |all |both |then )?(?:have|cost|weigh(?:ed)?|hold|held|contain(?:ed)?"
    r"|come|came|take|took|last(?:ed)?|fit|measure[ds]?|require[ds]?|produced?|use[ds]?|sold for"
    r"|sell for|feed|serve[ds]?|yield(?:ed)?|weren't|aren't|do|did)\b"
)


def _they(before: str, so_far: str, *, things: bool) -> str:
    """Whom or what "they" stands for: the two people, or the only things, that were named.

    things: whether "they" do what things do as well, so that counted things may be meant.
    """
    names = set(people(so_far))
    if both := _two(so_far):
        return both
    if noun := counted_noun(before):
        alive = any(counts_people(m) for m in counted(before)) or noun in _BEINGS
        if things or alive:
            return f"The {noun}" if len(names) <= 1 else ""
    of_many = {m["noun"] for m in _OF_MANY.finditer(so_far)}
    return f"The {of_many.pop()}" if len(of_many) == 1 and not names else ""


#: Animals, which do what people do.
_BEINGS = bag(
    "chickens hens cows horses pigs goats sheep ducks birds bees ants monkeys lions tigers bears "
    "wolves elephants rabbits puppies kittens turtles parrots fish players robots racers runners"
)
#: Nouns in the singular that "they" may stand for.
_MANY_AS_ONE = bag(
    "laboratory store company family team school patch orchard hotel cafe bank office theater "
    "charity shelter club shop farm factory restaurant class couple group city museum library "
    "bakery firm hospital band choir zoo"
)


_OF_MANY = re.compile(
    rf"\b(?:[Aa]n?|[Tt]he) (?P<noun>(?:[a-z-]+ )?(?:{'|'.join(sorted(_MANY_AS_ONE))}))"
    r"(?= [a-z]+|[.,])"
)
_ONE_SUBJECT = re.compile(
    r"(?:[Yy]esterday, )?(?:[Aa]n?|[Tt]he) (?P<noun>(?:[a-z-]+ ){0,3}?[a-z-]+) (?:is|are|was"
    r"|were|has|have|had|made"
    r"|needs?|sells?|sold|received|wants?|decided|bought|ordered|makes?|offers?|produces?|started"
    r"|contains?|costs?|holds?|weighs?|takes?|can)\b"
)
