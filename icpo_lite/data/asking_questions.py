"""The one short question that an underspecified prompt calls for, written from what it lacks.

Every certified `q*` knows the fact that was removed: "Mary buys 5 boxes of tea." The question asks
for its number with the fact's own words: "How many boxes of tea does Mary buy?" It serves as a
demonstration, of asking and of asking for the right thing. Where no rule fits the sentence, the
number's place is asked for as it stands ("Mary buys how many boxes of tea?").

The tables were written by hand; about 91 of 100 questions made for q* read fluently, as their
author read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.sentences import is_plural, sentences
from icpo_lite.core.types import Prompt, Shard
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import OWN_SUBJECT, SEPARATOR, counted
from icpo_lite.data.question_clauses import (
    Clause,
    has_verb,
    is_many,
    later_verb,
    parsed,
    small,
    without_members,
)
from icpo_lite.data.question_phrases import phrase_of
from icpo_lite.data.verb_forms import BE, SAME_PAST, asks_with, is_finite

#: Whether a question asks for what a prompt lacks, as a judge above this room sees it.
OnTarget = Callable[[Prompt, str], bool]


def asking_question(prompt: Prompt, on_target: OnTarget | None = None) -> str | None:
    """A question for a fact that a prompt lacks, the first for which one is found; None for none.

    on_target: the judge of questions; one that it refuses is not asked. A problem that brings its
    own questions, one a fact (`columns["asks"]`), is asked with those.
    """
    own = prompt.columns.get("asks")
    for shard in prompt.removed:
        if isinstance(own, list | tuple) and 0 < shard.shard_id <= len(own):
            question: str | None = str(own[shard.shard_id - 1])
        else:
            question = question_for(shard.text, prompt.text)
        if question is not None and (on_target is None or on_target(prompt, question)):
            return question
    return None


def question_for(fact: str, known: str = "") -> str | None:
    """A question whose answer is the number of a fact that `known` does not hold; None without.

    Where a fact holds several such numbers, the first is asked for.
    """
    held = {m.value for m in numbers(known)}
    fact = re.sub(r"\s+", " ", fact)
    for sentence in sentences(fact):
        marks = counted(sentence.text)
        missing = [m for m in marks if m.value not in held]
        if missing:
            return _question(sentence.text, missing[0])
    first = next((m for s in sentences(fact)[:1] for m in counted(s.text)), None)
    return _question(fact, first) if first else None


def _question(sentence: str, mention: NumberMention) -> str:
    bare = _ASIDE.sub("", sentence)
    if bare != sentence:
        same = [m for m in counted(bare) if m.value == mention.value]
        sentence, mention = (bare, same[0]) if same else (sentence, mention)
    text, shift = _own_clause(sentence, mention)
    inside = next(
        (m for m in numbers(text) if m.start == mention.start - shift and m.value == mention.value),
        None,
    )
    if inside is None:
        text, inside = sentence.rstrip(".!? "), mention
    asked = _ask(text, inside) or _in_place(text, inside)
    asked = re.sub(r"\s+", " ", asked).strip(" ,.;")
    return asked[:1].upper() + asked[1:] + "?"


_ASIDE = re.compile(r" ?\([^()]*\)")
_STOPS = re.compile(
    r",? (?:but|while|whereas|because|so|until|although|though|however|then|if|when)\b"
    r"|,? (?:and|which|who|where|after which|during which|with which)\b(?= )|[;:(]|, "
)
_GOES_WITH = re.compile(r"[^,]*\b(?:between|both)\b[^,]*$")


def _own_clause(sentence: str, mention: NumberMention) -> tuple[str, int]:
    """The part of a sentence that a number belongs to, and where it begins."""
    start = 0
    for match in SEPARATOR.finditer(sentence, 0, mention.start):
        opens = OWN_SUBJECT.match(sentence, match.end())
        if not has_verb(sentence[start : match.start()]):
            continue
        they = re.compile(r"(?:they|you|we|I) ([a-z]+)").match(sentence, match.end())
        opens = opens or (they if they and is_finite(they[1]) else None)
        if (
            opens
            and opens.start() < mention.start
            and not _GOES_WITH.match(sentence[: match.end()])
        ):
            start = match.end()
    end = len(sentence)
    for match in _STOPS.finditer(sentence, mention.unit_end):
        rest = sentence[match.end() :]
        if _goes_on(match[0], rest) or not has_verb(sentence[start : match.start()]):
            continue
        end = match.start()
        break
    return sentence[start:end].rstrip(".!? "), start


def _goes_on(stop: str, rest: str) -> bool:
    """Whether a stop stands inside of the phrase: "3 cats and dogs", "red, blue and green"."""
    if stop == " and":
        first = re.match(r" *([\w$€£']+)", rest)
        return not (
            first
            and (is_finite(first[1].lower()) or OWN_SUBJECT.match(rest.strip()) or counted(rest))
        )
    return False


def _ask(text: str, mention: NumberMention) -> str | None:
    for rule in (_leading_phrase, _existential, _subject_number, _age, _modifier, _of_verb):
        question = rule(text, mention)
        if question is not None:
            return question
    return None


# ------------------------------------------------------------------------------- forms of question


def _leading_phrase(text: str, mention: NumberMention) -> str | None:
    """ "In 5 years, Ann will be 16" → "in how many years will Ann be 16"."""
    words, start, end = phrase_of(text, mention)
    before = re.fullmatch(
        r"(?P<words>(?:In|For|After|At|Within|Over|During|Every|By|With|On|From|Of)"
        r"(?: the (?:next|last|past|first)| the)?) ",
        text[:start],
    )
    rest = re.match(
        r"(?P<more>[^,]{0,40}?),? (?P<clause>(?:[A-Z][\w’']*|he|she|they|it|the|there|his|her"
        r"|an?|each|\d\S*) .*)$",
        text[end:],
    )
    if before is None or rest is None or has_verb(rest["more"]):
        return None
    if before["words"].startswith("Of"):
        return f"{words}{rest['more']} are there"
    inverted = _inverted(rest["clause"])
    return f"{before['words']} {words}{rest['more']} {inverted}" if inverted else None


def _inverted(clause: str) -> str | None:
    """ "Ann will be 16" → "will Ann be 16"."""
    found = parsed(clause, len(clause), len(clause))
    if found is None or found.lead:
        return None
    auxiliary, verb = asks_with(found.verb, found.after)
    return f"{auxiliary} {small(found.subject)}{_space(verb)}{found.after}"


_THERE = re.compile(
    r"(?P<lead>.*?)\bthere (?P<be>are|is|were|was|will be|would be) $", re.IGNORECASE
)


def _existential(text: str, mention: NumberMention) -> str | None:
    """ "There are 24 marbles in a jar" → "how many marbles are there in a jar"."""
    words, start, end = phrase_of(text, mention)
    match = _THERE.fullmatch(text[:start])
    if match is None or mention.kind == "money":
        return None
    if match["lead"] and not re.search(r", $|^(?:In|On|At|For|Inside|By|Of)\b", match["lead"]):
        return None
    be = match["be"].lower()
    verb = {"will be": "will there be", "would be": "would there be"}.get(be, f"{be} there")
    verb = {"is there": "are there", "was there": "were there"}.get(verb, verb)
    lead = match["lead"].strip(" ,")
    return f"{words} {verb}{text[end:]}" + (f" {small(lead)}" if lead else "")


def _subject_number(text: str, mention: NumberMention) -> str | None:
    """ "10 racers are eliminated" → "how many racers are eliminated"."""
    words, start, end = phrase_of(text, mention)
    lead = text[:start]
    if lead and not re.fullmatch(r"(?:[A-Z][^,]*, )", lead):
        return None
    verb = re.match(r"(?: [\w’'-]+){0,6}? (?P<verb>[a-z]+)\b", text[end:])
    rest = text[end:]
    first = re.match(r" ([a-z]+)", rest)
    if mention.kind == "money" or first is None:
        return None
    if not any(is_finite(w) for w in re.findall(r"[a-z]+", rest)[:8]) or verb is None:
        return None
    tail = f" {small(lead.strip(' ,'))}" if lead and not has_verb(lead) else ""
    return f"{words}{rest}{tail}"


def _age(text: str, mention: NumberMention) -> str | None:
    """ "Betty is 60 years old" → "how old is Betty"."""
    match = re.match(r"(?P<unit> years?| months?| weeks?)(?: old| of age)\b|$", text[mention.end :])
    before = re.search(
        r"^(?P<who>.*?)(?:’s|'s| is| was| are| will be| turned| turns) (?:now |currently |only )?$",
        text[: mention.start],
    )
    if match is None or before is None or mention.kind != "cardinal":
        return None
    if not match[0] and not re.search(
        r"[A-Z]|brother|sister|mother|father|son|daughter", before["who"]
    ):
        return None
    if not match[0] and re.search(
        r"\b(?:age|number|price|cost|average|score|sum|total|weight|length|distance)\b",
        before["who"],
    ):
        return f"what is {small(before['who'])}"
    be = re.search(
        r"(is|was|are|will be|'s|’s|turned|turns) (?:now |currently |only )?$",
        text[: mention.start],
    )
    verb = (
        {"'s": "is", "’s": "is", "turned": "was", "turns": "is"}.get(be[1], be[1]) if be else "is"
    )
    tail = text[mention.end + match.end() :]
    if verb == "will be":
        return f"how old will {small(before['who'])} be{tail}"
    return f"how old {verb} {small(before['who'])}{tail}"


_HYPHENED = re.compile(
    r"-(?P<unit>[a-z]+)(?:[- ](?P<adjective>old|long|tall|wide|high|deep"
    r"|thick))? (?P<noun>[a-z]+(?: [a-z]+)?)"
)
_HAS_UNITS = frozenset(
    (
        "page",
        "slice",
        "piece",
        "room",
        "bedroom",
        "question",
        "seat",
        "story",
        "chapter",
        "part",
        "word",
        "count",
        "card",
    )
)
_UNIT_PLURAL = {"foot": "feet", "inch": "inches", "story": "stories"}


def _modifier(text: str, mention: NumberMention) -> str | None:
    """ "a 120-page book" → "how many pages does the book have"."""
    match = _HYPHENED.match(text, mention.end)
    if match is None:
        return None
    units = _UNIT_PLURAL.get(match["unit"], match["unit"] + "s")
    noun = (
        match["noun"].split(" ")[0]
        if re.search(r" (?:to|for|in|on|at|of|with|and|from|that|is|was|by)$", match["noun"])
        else match["noun"]
    )
    many = is_plural(noun)
    be, do = ("are", "do") if many else ("is", "does")
    if match["adjective"]:
        return f"how many {units} {match['adjective']} {be} the {noun}"
    if match["unit"] in _HAS_UNITS:
        return f"how many {units} {do} the {noun} have"
    if match["unit"] in ("minute", "hour", "second", "day", "week", "month", "year"):
        return f"how many {units} long {be} the {noun}"
    return f"how many {units} {be} the {noun}"


_PREPOSITION = re.compile(
    r"\b(?P<words>(?:in|for|at|by|with|to|from|over|within|after|into|on|during|of|per|every"
    r"|among|between|under)"
    r"(?: (?:a|an|the))?(?: (?:speed|rate|price|cost|total|distance|average|maximum|constant"
    r"|average speed|pace) of)?"
    r"(?: (?:the )?(?:next|last|past|first))?) $"
)


_AT_SPEED = re.compile(r"\bat an? (?P<what>(?:[a-z]+ )?(?:speed|rate|pace)) of $")
_WITH_WHAT = re.compile(
    r"(?<!to )(?<!into )(?<!on )\ban? (?P<noun>(?:[a-z-]+ ){0,2}?[a-z-]+) with $"
)


def _of_verb(text: str, mention: NumberMention) -> str | None:
    """ "Mary buys 5 boxes of tea" → "how many boxes of tea does Mary buy"."""
    words, start, end = phrase_of(text, mention)
    clause = parsed(text, start, end)
    if clause is None or clause.at < 0:
        return None
    before = without_members(_NO_ARTICLE.sub("", clause.after[: clause.at]))
    if clause.verb in _THINKS and OWN_SUBJECT.match(before.strip()):
        said = clause.after.lstrip()
        inner = [m for m in numbers(said) if m.value == mention.value]
        return _ask(said, inner[-1]) if inner else None
    if _MODIFIES.search(before):
        return _relative(text, start, end, words)
    clause, before = _nearest_verb(clause, before)
    rest = _OTHER_MEMBER.sub("", clause.after[clause.end :])
    lead = f" {small(clause.lead)}" if clause.lead else ""
    if clause.verb in BE and not before.strip():
        return _of_be(small(clause.subject), clause.verb, words, rest, mention) + lead
    if mention.kind == "money" and words == "how much" and not before.strip():
        words = _how_much(clause)
    return _turned(clause, words, before, rest, mention) + lead


_NO_ARTICLE = re.compile(r"\b(?:an?|the|these|those) ?$")
_MODIFIES = re.compile(
    r"\b(?:that|which|who|containing|holding|weighing|measuring|costing|worth)\b"
)


def _nearest_verb(clause: Clause, before: str) -> tuple[Clause, str]:
    """The verb of the same subject that is nearest to the number, with the words between."""
    if passive := _PASSIVE.search(before):
        return replace(clause, verb=passive["be"]), before[passive.end("be") :]
    if beside := re.fullmatch(r" and (?P<verb>[a-z]+(?:s|ed)) ?", before):
        return replace(clause, verb=beside["verb"]), ""
    if later := later_verb(before):
        return replace(clause, verb=later["verb"]), later["rest"]
    return clause, before


def _how_much(clause: Clause) -> str:
    _, verb = asks_with(clause.verb, clause.after)
    has = verb in ("have", "save", "raise", "receive", "win", "get", "earn")
    return "how much money" if has else "how much"


def _turned(clause: Clause, words: str, before: str, rest: str, mention: NumberMention) -> str:
    """The question of a clause: phrase, auxiliary, subject, verb and what is left, in order."""
    auxiliary, verb = asks_with(clause.verb, f"{before} {rest}")
    if auxiliary == "do" and not is_many(clause.subject):
        auxiliary = "did" if clause.verb in SAME_PAST else "does"
    core = f"{auxiliary} {small(clause.subject)}{_space(verb)}"
    if speed := _AT_SPEED.search(before):
        rest = re.sub(r"^ ?(?:/|per |an? )\w+", "", rest)
        return f"at what {speed['what']} {core}{before[: speed.start()].rstrip()}{rest}"
    with_what = _WITH_WHAT.search(before)
    if with_what and mention.kind == "cardinal":
        return f"{words} does the {with_what['noun']} have"
    placed = _PREPOSITION.search(before)
    if placed is None:
        return f"{words} {core}{before.rstrip()}{rest}"
    middle, preposition = before[: placed.start()].rstrip(), placed["words"].split()[0]
    if mention.kind == "money" and preposition in ("for", "at", "of", "with"):
        preposition = {"at": "for"}.get(preposition, preposition)
        return f"{words} {core}{middle} {preposition}{rest}"
    return f"{placed['words']} {words} {core}{middle}{rest}"


_THINKS = bag(
    "knows knew thinks thought says said believes realizes realized notices noticed sees saw "
    "estimates calculates figures decides finds found"
)


_PASSIVE = re.compile(
    r" (?:and|but) (?P<be>is|are|was|were)(?: then| also| later)? (?=[a-z]+(?:ed|en)\b)(?!.* and )"
)
_OTHER_MEMBER = re.compile(
    r"^,? and (?:some|an?|the|his|her) [a-z ]+?(?= (?:at|in|on|for|to|from|with)\b|$)"
)


def _space(verb: str) -> str:
    return f" {verb}" if verb else ""


def _of_be(subject: str, be: str, words: str, rest: str, mention: NumberMention) -> str:
    """ "The cost of the phone is $1300" → "what is the cost of the phone"."""
    named = re.match(
        r"(?:the|his|her|their|its|[\w’']+['’]s) (?:[a-z-]+ ){0,3}?(?:cost|price|number|total"
        r"|age|weight|length|distance|width"
        r"|height|speed|rate|average|score|population|salary|income|fee|bill|budget|time|area"
        r"|rent|capacity|ratio)\b",
        subject,
    )
    if (
        named
        and mention.kind in ("money", "cardinal", "percent", "fraction")
        and "than" not in words
    ):
        return f"what {be} {subject}{rest}"
    return f"{words} {be} {subject}{rest}"


_OF_ING = {
    "containing": "contain",
    "holding": "hold",
    "weighing": "weigh",
    "measuring": "measure",
    "costing": "cost",
}


def _relative(text: str, start: int, end: int, words: str) -> str | None:
    """ "… a bus that holds 40 people" → "how many people does the bus hold"."""
    match = re.search(
        r"\b(?:an?|the|one|his|her) (?P<noun>(?:[\w-]+ ){0,2}?[\w-]+),? (?:(?:that|which|who)"
        r" (?:only |also |already )?(?P<verb>[a-z]+)|(?P<ing>containing|holding|weighing|measuring"
        r"|costing|worth))(?P<between>[^,]*)$",
        text[:start],
    )
    if match is None:
        return None
    between = match["between"].rstrip()
    if match["ing"] == "worth":
        return f"{words} is the {match['noun']} worth{text[end:]}"
    if match["ing"]:
        return f"{words} does the {match['noun']} {_OF_ING[match['ing']]}{between}{text[end:]}"
    if not is_finite(match["verb"]):
        return None
    auxiliary, verb = asks_with(match["verb"], match["between"])
    if auxiliary == "do":
        auxiliary = "does"
    return f"{words} {auxiliary} the {match['noun']}{_space(verb)}{between}{text[end:]}"


def _in_place(text: str, mention: NumberMention) -> str:
    words, start, end = phrase_of(text, mention)
    return re.sub(r"\b(?:the|these|those) $", "", text[:start]) + words + text[end:]


def questions_for(shards: tuple[Shard, ...]) -> dict[int, str]:
    """The question for each fact of a problem, by shard id; facts without a number have none."""
    found = ((s.shard_id, question_for(s.text)) for s in shards if not s.is_question)
    return {shard_id: question for shard_id, question in found if question}
