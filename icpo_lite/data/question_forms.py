"""The forms of a question for a number: which words go to the front, and in which order the rest.

Each form takes a clause and the number in it, and gives the question without its capital and mark,
or None where the clause is of another form.
"""

from __future__ import annotations

import re
from dataclasses import replace

from icpo_lite.core.numbers import NumberMention, numbers
from icpo_lite.core.words import bag
from icpo_lite.data.clause_words import BASES, NUMBER_WORD, OWN_SUBJECT
from icpo_lite.data.question_clauses import (
    Clause,
    has_verb,
    is_many,
    is_several,
    known,
    later_verb,
    parsed,
    small,
    without_members,
)
from icpo_lite.data.question_nouns import (
    OF_ING,
    ask_of_fragment,
    ask_of_modified,
    ask_of_relative,
)
from icpo_lite.data.question_patterns import (
    ask_in_each,
    ask_of_age,
    ask_of_property,
    ask_of_time,
)
from icpo_lite.data.question_phrases import phrase_of
from icpo_lite.data.verb_forms import BE, GIVE, PARTICLES, SAME_PAST, asks_with, is_finite


def ask(text: str, mention: NumberMention) -> str | None:
    """The question for a number by the first form that fits; None where none does."""
    for rule in _RULES:
        question = rule(text, mention)
        if question is not None:
            return question
    return None


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


_ADVERBIAL = re.compile(
    r"(?:In|On|At|For|After|Before|During|Every|Each|Last|This|Next|By|From|Over|With|Of|Due|When"
    r"|The (?:next|first|second|third|last|following|same)|Today|Yesterday|Then|Finally|Also|Later"
    r"|While|Once|Since|One|Across|Among|Out|Inside|Throughout|Around|Within|Under|Between|Through|[A-Z][a-z]+ly|(?i:"
    + NUMBER_WORD
    + r")) ?[^,]*, "
)


def _subject_number(text: str, mention: NumberMention) -> str | None:
    """ "10 racers are eliminated" → "how many racers are eliminated"."""
    words, start, end = phrase_of(text, mention)
    lead = text[:start]
    if lead and not _ADVERBIAL.fullmatch(lead):
        return None
    if not lead and not text[end:] and mention.kind in ("percent", "fraction"):
        return words  # which holds the verb: "40% of the eggs hatch"
    verb = re.match(r"(?: [\w’'-]+){0,6}? (?P<verb>[a-z]+)\b", text[end:])
    rest = text[end:]
    first = re.match(r" ([a-z]+)", rest)
    if mention.kind == "money" or first is None:
        return None
    if not any(is_finite(w) for w in re.findall(r"[a-z]+", rest)[:8]) or verb is None:
        return None
    tail = f" {small(lead.strip(' ,'))}" if lead and not has_verb(lead) else ""
    return f"{words}{rest}{tail}"


_PREPOSITION = re.compile(
    r"\b(?P<words>(?:in|for|at|by|with|to|from|over|within|after|into|on|during|of|per|every"
    r"|among|between|under)"
    r"(?: (?:a|an|the))?(?: (?:speed|rate|price|cost|total|distance|average|maximum|constant"
    r"|average speed|pace) of)?"
    r"(?: (?:the )?(?:next|last|past|first))?) $"
)


_FROM_WHAT = re.compile(r" of (?:her|him|it|them|the [a-z]+|[A-Z]\w+)\b")
_AT_A_RATE = re.compile(r"\bat $")
_PER_TIME = re.compile(r" ?(?:/ ?|per |an? )(?:hour|minute|second|hr|day)\b")
_AT_SPEED = re.compile(r"\bat an? (?P<what>(?:[a-z]+ )?(?:speed|rate|pace)) of $")
#: "for a class of 30 students"
_GROUP_OF = re.compile(
    r"\ban? (?P<noun>(?:[a-zA-Z.]+ )?(?:class|group|team|family|crew|party|club|staff|choir|band"
    r"|audience|population|fleet|herd|flock|collection)) (?:of|with) $"
)
_GETS = bag("bring make buy order have own get bake")
_WITH_BARE = re.compile(
    r" (?P<noun>(?!(?:off|up|out|home|back|along|together|left|stuck|away)\b)[a-z]+) with $"
)
_HAVING = bag("read buy watch see write rent own have")
_WITH_THE = re.compile(r" (?:the|his|her|their) (?P<noun>(?:[a-z-]+ ){0,2}?[a-z-]+) with $")
_WITH_WHAT = re.compile(
    r"(?<!to )(?<!into )(?<!on )\ban? (?P<noun>(?:[a-z-]+ ){0,2}?[a-z-]+) with $"
)


_NOT = re.compile(
    r"(?P<who>[^,]+?) (?P<be>do|does|did|is|was|are|were|has|have|had|can|could|will|would)"
    r"(?:n['’]t| not|(?<=ca)n['’]t) (?P<rest>[^,]+)$"
)


def _negated(text: str, mention: NumberMention) -> str | None:
    """ "Jo doesn't bake for 10 weeks" → "for how many weeks does Jo not bake"."""
    words, start, end = phrase_of(text, mention)
    match = _NOT.match(text[:start])
    placed = _PREPOSITION.search(text[:start])
    if match is None or placed is None or placed.start() < match.start("rest"):
        return None
    if has_verb(match["who"]) or " and " in match["rest"]:
        return None
    between = text[match.start("rest") : placed.start()].rstrip()
    who = small(known(match["who"]))
    return f"{placed['words']} {words} {match['be']} {who} not {between}{text[end:]}"


def _of_verb(text: str, mention: NumberMention) -> str | None:
    """ "Mary buys 5 boxes of tea" → "how many boxes of tea does Mary buy"."""
    words, start, end = phrase_of(text, mention)
    clause = parsed(text, start, end)
    if clause is None or clause.at < 0:
        return None
    before = clause.after[: clause.at]
    if not _to_whom(text[start:], clause, before, mention):
        before = _NO_ARTICLE.sub("", before)
    before = without_members(before)
    if clause.verb in _THINKS and OWN_SUBJECT.match(before.strip()):
        said = clause.after.lstrip()
        inner = [m for m in numbers(said) if m.value == mention.value]
        return ask(said, inner[-1]) if inner else None
    if clause.verb in BE and before.strip() == "worth":
        return f"{words} {clause.verb} {small(known(clause.subject))} worth"
    if each := _EACH_ING.search(text[:start]):
        return f"{words} does each one {OF_ING[each['ing']]}"
    if _GERUND.search(before) and (asked := _of_gerund(words, clause, before)):
        return f"{asked}{clause.after[clause.end :]}"
    if thing := _thing_compared(words, clause, before):
        rest = clause.after[clause.end :]
        return thing if numbers(rest) else f"{thing}{rest}"
    if _MODIFIES.search(before):
        return ask_of_relative(text, start, end, words)
    clause, before = _nearest_verb(clause, before)
    before = _EARLIER_PRICED.sub(" ", _EARLIER_MEMBER.sub(" ", before))
    rest = _contact(_OTHER_MEMBER.sub("", clause.after[clause.end :]))
    if clause.verb.startswith(("averag", "measur")):
        rest = re.sub(r"^ (?:long|tall|wide|high|deep)\b", "", rest)
    if (
        rest == " each"
        and mention.kind == "cardinal"
        and not is_many(clause.subject)
        and not is_several(clause.subject)
    ):
        rest = ""
    lead = f" {small(clause.lead)}" if clause.lead else ""
    if mention.kind == "money" and re.search(r"\b(?:for|at) $", before):
        # Not "how much does Ann buy a coffee for 3 days a week", nor "for for breakfast".
        lead = "" if numbers(lead) or re.match(r" (?:for|one|every|each)\b", lead) else lead
    if clause.verb in BE and not before.strip():
        return _of_be(small(known(clause.subject)), clause.verb, words, rest, mention) + lead
    if mention.kind == "money" and words == "how much" and not before.strip():
        words = _how_much(clause)
    asked = _turned(clause, words, before, rest, mention)
    return asked if asked.endswith(" have") and "with" in before else asked + lead


def _to_whom(phrase: str, clause: Clause, before: str, mention: NumberMention) -> bool:
    """Whether "her" is the one who is given the number's things: "gave her another 9 pens"."""
    gives = asks_with(clause.verb, before)[1] in GIVE and re.fullmatch(
        r" (?:then |also )?her ", before
    )
    return bool(phrase.startswith(("another", "an ")) or (gives and mention.kind == "money"))


_EACH_ING = re.compile(r",? (?:each|all) (?P<ing>containing|holding|weighing|measuring|costing) $")
#: A member of a list with a number of its own: "a kite for $8 and " before "a frisbee for ".
_EARLIER_MEMBER = re.compile(r"^[^,]*\d[^,]* and (?=(?:an?|the|some) )")
#: The same of several: "bread for $2, butter for ".
_EARLIER_PRICED = re.compile(
    r"^.*\d[^,]*, (?:and )?(?=(?:(?:an?|some|the) )?[a-z-]+(?: [a-z-]+){0,2} for $)"
)
_GERUND = re.compile(
    r"(?:\b(?:before|after|while|by) (?P<verb>[a-z]+)ing|(?<=[a-z]) (?P<uses>us)ing)"
    r"(?P<rest> [^,]*)?$"
)


def _of_gerund(words: str, clause: Clause, before: str) -> str | None:
    """ "Ann rests before covering 18 miles" → "how many miles does Ann cover"."""
    match = _GERUND.search(before)
    stem = (match["verb"] or match["uses"]) if match else ""
    bases = (stem, f"{stem}e", stem[:-1])
    verb = next((b for b in bases if b in BASES), None)
    if match is None or verb is None:
        return None
    auxiliary = asks_with(clause.verb, before)[0]
    auxiliary = auxiliary if auxiliary in ("do", "does", "did") else "does"
    return (
        f"{words} {auxiliary} {small(known(clause.subject))} {verb}{(match['rest'] or '').rstrip()}"
    )


def _thing_compared(words: str, clause: Clause, before: str) -> str:
    """ "… on a ladder 4 feet shorter than his" → "how many feet shorter than his is the ladder"."""
    noun = re.search(
        r"(?P<on> (?:on|in|with|from|at))? an? (?P<noun>(?:[a-z]+ )?[a-z]+) ?$", before
    )
    has = noun and (
        noun["on"] or "percent" not in words or asks_with(clause.verb, before)[1] in _HAVING
    )
    if noun is None or not has or not re.search(r"\w+er than\b", words) or clause.verb in BE:
        return ""
    be = "was" if asks_with(clause.verb, before)[0] == "did" else "is"
    return f"{words} {be} the {noun['noun']}"


_NO_ARTICLE = re.compile(
    r"\b(?:(?:each|all|both|every one) (?:of )?)?"
    r"(?:an?|the|these|those|his|her|their|its|my|our|your|[A-Z][\w-]*['’]s?)"
    r"(?: (?:favorite|own|usual|entire|whole|final))? ?$"
    r"|\b(?:each|all|both) of ?$"
)
_MODIFIES = re.compile(
    r"\b(?:that|which|who|containing|holding|weighing|measuring|costing|worth)\b"
)


def _nearest_verb(clause: Clause, before: str) -> tuple[Clause, str]:
    """The verb of the same subject that is nearest to the number, with the words between."""
    if passive := _PASSIVE.search(before):
        return replace(clause, verb=passive["be"]), before[passive.end("be") :]
    if beside := re.fullmatch(r" and (?P<verb>[a-z]+(?:s|ed)) ?", before):
        return replace(clause, verb=beside["verb"]), ""
    if later := later_verb(before, clause.verb):
        return replace(clause, verb=later["verb"]), later["rest"]
    return clause, before


def _how_much(clause: Clause) -> str:
    _, verb = asks_with(clause.verb, clause.after)
    has = verb in ("have", "save", "raise", "receive", "win", "get", "earn")
    return "how much money" if has else "how much"


def _turned(clause: Clause, words: str, before: str, rest: str, mention: NumberMention) -> str:
    """The question of a clause: phrase, auxiliary, subject, verb and what is left, in order."""
    auxiliary, verb = asks_with(clause.verb, before if before.strip() else f"# {rest}")
    if auxiliary == "does" and is_several(clause.subject):
        auxiliary = "do"
    if auxiliary == "do" and not is_many(clause.subject):
        auxiliary = "did" if clause.verb in SAME_PAST else "does"
    each = " each" if clause.each else ""
    subject = small(known(clause.subject))
    if auxiliary == "do" and subject.isalpha():
        subject = subject.lower()  # "Cones cost": no name takes "do"
    core = f"{auxiliary} {subject}{each}{_space(verb)}"
    if re.search(r"\b(?:mph|kph|miles per hour)\b", words) and _AT_A_RATE.search(before):
        return f"at what speed {core}{_AT_A_RATE.sub('', before).rstrip()}{rest}"
    if mention.kind == "cardinal" and _AT_A_RATE.search(before) and _PER_TIME.match(rest):
        gone = _PER_TIME.sub("", rest, count=1)
        return f"at what speed {core}{_AT_A_RATE.sub('', before).rstrip()}{gone}"
    if speed := _AT_SPEED.search(before):
        rest = re.sub(r"^ ?(?:/|per |an? )\w+", "", rest)
        return f"at what {speed['what']} {core}{before[: speed.start()].rstrip()}{rest}"
    with_what = (
        _WITH_WHAT.search(before)
        or (verb in _HAVING and _WITH_THE.search(before))
        or (verb in _GETS and _WITH_BARE.match(before))
    )
    if with_what and mention.kind == "cardinal":
        return f"{words} does the {with_what['noun']} have"
    placed = _PREPOSITION.search(before)
    if placed is None:
        before = re.sub(r" the (?:last|first|remaining) ?$", " ", before)
    if clause.subject.lower().startswith("each "):
        rest = re.sub(r"^ each\b", "", rest)
    if placed is None or (before.strip(), verb) in PARTICLES:
        return f"{words} {core}{before.rstrip()}{rest}"
    if placed["words"] == "at" and verb in ("start", "begin", "end", "stand", "peak"):
        return f"{words} {core}{before.rstrip()}{rest}"
    if verb == "call" and placed["words"] == "for":
        return f"{words} {core} for{rest}"
    if of_group := _GROUP_OF.search(before):
        return f"{words} are there in the {of_group['noun']}"
    rest = re.sub(r"^ (?:total|in total)$", "", rest)
    if away := _FROM_WHAT.match(rest):
        words, rest = words + away[0], rest[away.end() :]
    middle, preposition = before[: placed.start()].rstrip(), placed["words"].split()[0]
    if mention.kind == "money" and preposition in ("for", "at", "of", "with"):
        rest = re.sub(
            r"^ an? (?=(?:day|week|month|year|hour|night|pound|pack|box)\b)", " per ", rest
        )
        each_one = re.match(r" (?:each|apiece)\b", rest)
        if each_one and middle.strip():  # "sells shirts for $5 each"
            return f"for how much each {core}{middle}{rest[each_one.end() :]}"
        preposition = {"at": "for"}.get(preposition, preposition)
        return f"{words} {core}{middle} {preposition}{rest}"
    return f"{placed['words']} {words} {core}{middle}{rest}"


def _contact(rest: str) -> str:
    """What follows a number without a clause that hangs on it: "of cotton he needs to plant"."""
    rest = re.sub(r"^ (?:sold|bought|given|priced|valued) .*", "", rest)
    match = re.search(r"^(?P<kept>[^,]*?) (?:he|she|they|we) (?P<verb>[a-z]+)\b", rest)
    free = match and not re.search(
        r"\b(?:than|as|that|when|if|who|which|what|how|because|where|while|before|after|until|once"
        r"|time|day|week|month|year|and|but|so)$",
        match["kept"],
    )
    return match["kept"] if match and free and is_finite(match["verb"]) else rest


_THINKS = bag(
    "knows knew thinks thought says said believes realizes realized notices noticed sees saw "
    "estimates calculates figures decides finds found"
)


_PASSIVE = re.compile(
    r" (?:and|but) (?P<be>is|are|was|were)(?: then| also| later)? (?=[a-z]+(?:ed|en)\b)(?!.* and )"
)
_OTHER_MEMBER = re.compile(
    r"^,? and (?:some|an?|the|his|her|their|its) [a-z ]+?"
    r"(?= (?:at|in|on|for|to|from|with|last|this)\b|$)"
)


def _space(verb: str) -> str:
    return f" {verb}" if verb else ""


def _of_be(subject: str, be: str, words: str, rest: str, mention: NumberMention) -> str:
    """ "The cost of the phone is $1300" → "what is the cost of the phone"."""
    each = re.match(r" (?:each|apiece)(?P<more> .+)", rest)
    if each and be in ("are", "were"):
        return f"{words} {'is' if be == 'are' else 'was'} each of {subject}{each['more']}"
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


#: Forms of question, the first that fits.
_RULES = (
    *(
        _negated,
        _leading_phrase,
        _existential,
        _subject_number,
        ask_of_age,
        ask_of_modified,
        ask_of_time,
    ),
    *(ask_of_property, ask_in_each, _of_verb, ask_of_fragment),
)
